#!/usr/bin/env bash
# Gather what a GPU machine without network needs. Needs network, and Python with pip.
#
#   bash benchmarks/gpu/pack.sh [KIT [FAIRSEQ]]
#
#   KIT      the folder that travels (gpu-kit, which git ignores); made anew
#   FAIRSEQ  a checkout of fairseq's repository, whose CUDA kernel is built on the GPU machine: no
#            package of fairseq has its sources. Without it, the kernel is left out.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
kit=${1:-$root/gpu-kit} modules=${2:+$2/fairseq/modules}
python=${PYTHON:-python3}

die() { printf 'error: %s\n' "$*" >&2; exit 1; }
(($# <= 2)) || die "pack.sh takes at most two folders, but got $# arguments"
[ -z "$modules" ] || [ -f "$modules/lightconv_layer/lightconv_cuda.cuh" ] ||
  die "FAIRSEQ $2 has no fairseq/modules/lightconv_layer: it must be a checkout of fairseq"
[ ! -e "$kit" ] || [ -d "$kit/wheels" ] || die "KIT $kit exists, but is no packed kit"

rm -rf "$kit"
mkdir -p "$kit/wheels"
pip=("$python" -m pip --disable-pip-version-check -q)
platforms=()
for tag in manylinux_2_28 manylinux_2_17 manylinux2014; do platforms+=(--platform "${tag}_x86_64"); done
"${pip[@]}" download --no-deps --require-hashes --only-binary=:all: --implementation cp \
  --python-version 3.12 "${platforms[@]}" --dest "$kit/wheels" \
  -r "$root/scripts/requirements-fairseq.txt" -r "$here/requirements.txt"
"${pip[@]}" wheel --no-deps --require-hashes --no-binary :all: --wheel-dir "$kit/wheels" \
  -r "$here/requirements-source.txt"
if [ -n "$modules" ]; then
  mkdir "$kit/lightconv"
  cp -r "$modules/cuda_utils.cu" "$modules/lightconv_layer" "$kit/lightconv"
fi
du -sh "$kit"
