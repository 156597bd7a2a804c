#!/usr/bin/env bash
# On a GPU machine: install the kit, run the tests that need a GPU, and measure. It ends by itself.
#
#   bash benchmarks/gpu/run.sh [KIT [OUT [OPTION ...]]]
#
#   KIT     made by pack.sh (gpu-kit)
#   OUT     gets the results as they come (gpu-results): at most nine files
#   OPTION  of benchmarks/run.py, after --device cuda; to rehearse: --device cpu --quick
#
# SECONDS_IN_ALL (400) is divided among the steps; what one leaves over goes to those after it.
set -uo pipefail
kit=$(realpath -m "${1:-gpu-kit}") out=$(realpath -m "${2:-gpu-results}")
shift $(($# < 2 ? $# : 2))
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-python3}
in_all=${SECONDS_IN_ALL:-400}
[ -d "$kit/wheels" ] || { echo "error: $kit is no packed kit: run benchmarks/gpu/pack.sh" >&2; exit 1; }
mkdir -p "$out"
work=$(mktemp -d) beside=()
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
exec > >(tee "$out/log.txt") 2>&1

# until_share PERCENT COMMAND ...: interrupt the command when so much of the time is over.
until_share() {
  local left=$((in_all * $1 / 100 - SECONDS))
  shift
  printf '[%d s] %s\n' "$SECONDS" "$*" >&2
  timeout --signal=INT --kill-after=10 "$((left > 1 ? left : 1))" "$@"
}
bench() { until_share "$1" "$python" benchmarks/run.py --device cuda --seconds 0.1 --out "$out" \
  --sections "${@:2}"; }

"$python" -m pip --disable-pip-version-check install -q --no-index --no-deps --no-compile \
  --target "$work/site" "$kit"/wheels/*.whl || exit 1
export PYTHONPATH="$PWD:$work/site${PYTHONPATH:+:$PYTHONPATH}" TQDM_MININTERVAL=20
"$python" -c 'import os, sys, torch
print("Python", sys.version.split()[0], "torch", torch.__version__, os.cpu_count(), "cores",
      torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")' || exit 1

# Beside the tests, what the benchmarks run is compiled: Triton's kernels, and fairseq's own.
build=
if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  for precision in float32 bfloat16 float16; do
    timeout $((in_all / 3)) "$python" benchmarks/run.py --device cuda --sections op,step \
      --precision "$precision" --seconds 0.01 "$@" &>/dev/null &
    beside+=($!)
  done
  if [ -d "$kit/lightconv" ] && command -v nvcc >/dev/null; then
    timeout $((in_all / 3)) "$python" benchmarks/gpu/build_lightconv.py "$kit/lightconv" \
      "$work/kernel" &>"$work/kernel.log" &
    build=$!
  fi
fi
mapfile -t files < <(grep -rlE 'mark\.gpu|MARKS' tests --include='test_*.py')
until_share 35 "$python" -m pytest -m gpu -v -n "$((($(nproc) + 1) / 2))" --dist loadgroup \
  -p no:cacheprovider "${files[@]}" | tee "$work/tests.log"
"$python" - "$work/tests.log" >"$out/tests.json" <<'END'
import json, re, sys
found = {}  # for each outcome, the tests that ended before the time did
for line in open(sys.argv[1]):
    if match := re.match(r"\[gw.*(PASSED|FAILED|ERROR|SKIPPED|XFAIL) (tests/.*\S)", line):
        found.setdefault(match[1].lower(), []).append(match[2])
print(json.dumps({**{name: len(tests) for name, tests in found.items()}, "tests": found}, indent=1))
END
[ -z "$build" ] || wait "$build" || { echo "without fairseq's kernel:"; tail -n 3 "$work/kernel.log"; }
((${#beside[@]} == 0)) || { kill "${beside[@]}"; wait "${beside[@]}"; } 2>/dev/null

# fairseq's kernel is there for the convolution alone: its models would take it unasked.
PYTHONPATH="$PYTHONPATH:$work/kernel" bench 58 op "$@" >/dev/null
bench 73 step "$@" >/dev/null
bench 84 decode "$@" >/dev/null
bench 92 images,conv "$@" >/dev/null
bench 100 op,step,decode,images,conv "$@" # what is missing, and all tables
tar -czf "$out/tables.tar.gz" -C "$out" README.md $(cd "$out" && ls ./*.png 2>/dev/null)
rm -f "$out"/*.png
printf '[%d s] done\n' "$SECONDS"
