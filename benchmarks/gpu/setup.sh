#!/usr/bin/env bash
# Install a packed kit beside itself, without network, and check what is there.
#
#   bash benchmarks/gpu/setup.sh [FOLDER]
#
# FOLDER (gpu-kit) was made by pack.sh. The wheels go to FOLDER-site; the active Python
# (PYTHON=... chooses another) is not changed. Safe to run again: what is there stays.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

say() { printf '[setup] %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

(($# <= 1)) || die "one folder at most, but there are $# arguments"
kit=${1:-$root/gpu-kit}
[ -f "$kit/SHA256SUMS" ] || die "$kit is no packed kit; make it with benchmarks/gpu/pack.sh"
kit=$(cd "$kit" && pwd)
site=$kit-site
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' ||
  die "$("$python" --version) is active, but the wheels are for Python 3.12 (PYTHON=... chooses it)"

started=$SECONDS
if cmp -s "$kit/SHA256SUMS" "$site/SHA256SUMS"; then
  say "$site is complete"
else
  (cd "$kit" && sha256sum --quiet --strict -c SHA256SUMS) || die "$kit is damaged; copy it again"
  say "installing into $site"
  rm -rf "$site" "$site.partial"
  "$python" -m pip --disable-pip-version-check install -q --no-index --no-deps --no-cache-dir \
    --target "$site.partial" "$kit"/wheels/*.whl
  cp "$kit/SHA256SUMS" "$site.partial"
  mv "$site.partial" "$site"
fi

export PYTHONPATH="$root:$site${PYTHONPATH:+:$PYTHONPATH}"
cd "$root"
"$python" - <<'END'
import importlib
import os
import shutil
import sys

missing = []
for name in (
    "torch numpy scipy sklearn yaml regex tqdm sacrebleu sentencepiece matplotlib packaging "
    "pytest xdist hypothesis fairseq_cgc fairseq_cli.train fairseq_cli.generate hydra omegaconf "
    "bitarray subword_nmt.apply_bpe sacremoses tensorboardX"
).split():
    try:
        importlib.import_module(name)
    except ImportError as error:
        missing.append(f"{name} ({error})")
if missing:
    sys.exit("error: cannot be imported: " + "; ".join(missing))

import torch
from importlib.metadata import PackageNotFoundError, version

versions = [f"Python {sys.version.split()[0]}"]
for name in "torch triton numpy fairseq-fixed hydra-core sacrebleu sacremoses subword-nmt".split():
    try:
        versions.append(f"{name} {version(name)}")
    except PackageNotFoundError:
        versions.append(f"{name} missing")
print(", ".join(versions))
print(f"{os.cpu_count()} cores; CUDA of torch: {torch.version.cuda}")
for number in range(torch.cuda.device_count()):
    gpu = torch.cuda.get_device_properties(number)
    print(f"GPU {number}: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")
if torch.cuda.is_available():
    torch.ones(2, device="cuda").sum().item()
else:
    print("torch sees no GPU: only what runs on a CPU will run")
for folder in (".", "/dev/shm"):
    if os.path.isdir(folder):
        print(f"{shutil.disk_usage(folder).free / 2**30:.0f} GiB free in {os.path.abspath(folder)}")
END
say "done in $((SECONDS - started)) s; for your own commands:"
printf 'export PYTHONPATH=%q\n' "$root:$site"
