#!/usr/bin/env bash
# The long reliability run: every item of docs/reliability.md at full size, hours on 2 cores.
#
#   bash scripts/soak.sh                  with .venv, into soak/
#   bash scripts/soak.sh --short          the same items, small
#   bash scripts/soak.sh --here           with the active Python environment
#   bash scripts/soak.sh --work FOLDER    into another folder
#
# It can be stopped at any point: the same command continues and skips finished items. At the end it
# prints a line for each item (tried, survived, lost); the status is 1 if anything was lost.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
size=long python=.venv/bin/python work=soak
while [ $# -gt 0 ]; do
  case $1 in
    --short) size=short ;;
    --here) python=python3 ;;
    --work) work=${2:?--work needs a folder}; shift ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
  shift
done
if ! command -v "$python" > /dev/null; then
  echo "error: there is no $python; run scripts/setup.sh, or give --here" >&2
  exit 1
fi
kills=200 cases=10000 updates=2000 batches=1000 trained=600 lines=100000 interruptions=8 pairs=1000000
if [ $size = short ]; then
  kills=10 cases=500 updates=50 batches=100 trained=30 lines=2000 interruptions=2 pairs=20000
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
mkdir -p "$work/$size"
work=$(cd "$work/$size" && pwd)
tools=tests/reliability

stopped() {
  echo "[soak] interrupted; run the same command again to continue" >&2
  exit 130
}
trap stopped INT TERM

# item NAME TOOL ARGUMENTS...: run the item unless it is finished, and keep its last line.
item() {
  local name=$1 summary=$work/$1.summary status
  shift
  [ -s "$summary" ] && return
  echo "[soak] $name; log: $work/$name.log" >&2
  "$python" "$tools/$1" "${@:2}" > "$work/$name.out" 2>> "$work/$name.log"
  status=$?
  [ $status -lt 128 ] || stopped
  if tail -n 1 "$work/$name.out" | grep -qE ': tried [0-9]+, survived [0-9]+, lost [0-9]+$'; then
    tail -n 1 "$work/$name.out" > "$summary"
  else
    echo "$name: ended with status $status and no count; see $work/$name.log" > "$work/$name.failed"
  fi
}

rm -f "$work"/*.failed
item checkpoints kill_training.py --times $kills --seed 1 --work "$work/checkpoints"
item hostile-checkpoints count_tests.py "hostile checkpoints" \
  $tools/test_checkpoint_damage.py $tools/test_hostile_checkpoints.py
item processes count_tests.py processes $tools/test_processes*.py
item hostile-input fuzz.py --cases $cases --work "$work/fuzz"
item numerics numerics.py --updates $updates --batches $batches --work "$work/numerics"
item model soak_model.py --updates $trained --work "$work/model"
item translation soak_translation.py "$work/model/model/checkpoint_last.pt" \
  --data "$work/model/data/bin" --text "$work/model/corpus/test.de" \
  --lines $lines --kills $interruptions --work "$work/lines" \
  --report "$work/soak.json" --plot "$work/soak.png" -- --beam 1 --buffer-size 1024 --cpu
item large-corpus large_corpus.py --pairs $pairs --work "$work/large-corpus"

echo "[soak] summary:"
cat "$work"/*.summary
if cat "$work"/*.failed 2> /dev/null || grep -qv ', lost 0$' "$work"/*.summary; then
  exit 1
fi
