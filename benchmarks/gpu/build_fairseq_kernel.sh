#!/usr/bin/env bash
# Build fairseq's CUDA kernel of the lightweight convolution, to compare with; needs no GPU.
#
#   bash benchmarks/gpu/build_fairseq_kernel.sh FAIRSEQ FOLDER
#
#   FAIRSEQ  a checkout of fairseq's repository; no package of it has these sources
#   FOLDER   where lightconv_cuda*.so goes, for pack.sh --fairseq-kernel
#
# PYTHON=... must have the GPU machine's versions of Python and torch, and nvcc its CUDA's. The
# kernel widths beyond 31 are left out, and only GPUs of TORCH_CUDA_ARCH_LIST (9.0) are built for.
set -euo pipefail

die() { printf 'error: %s\n' "$*" >&2; exit 1; }

(($# == 2)) || die "two folders must be given, but there are $# arguments"
modules=$1/fairseq/modules folder=$2
python=${PYTHON:-python3}
[ -f "$modules/lightconv_layer/lightconv_cuda.cuh" ] ||
  die "$1 has no fairseq/modules/lightconv_layer/lightconv_cuda.cuh: no checkout of fairseq"
command -v nvcc >/dev/null || die "nvcc is not there"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/layer"
cp "$modules/cuda_utils.cu" "$work"
cp "$modules"/lightconv_layer/lightconv_cuda* "$work/layer"
sed 's/, 63, 127, 255\]/]/' "$modules/lightconv_layer/cuda_function_gen.py" >"$work/layer/generate.py"
(cd "$work/layer" && "$python" generate.py)
mkdir -p "$folder"
export TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-9.0}
"$python" - "$work" <<'END' >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; die "it does not build"; }
import sys
from pathlib import Path

from torch.utils.cpp_extension import load

layer = Path(sys.argv[1]).resolve() / "layer"
load(
    "lightconv_cuda",
    [str(layer / f"lightconv_cuda{end}") for end in (".cpp", "_kernel.cu")],
    build_directory=str(layer),
    # The kernel's first include needs what its second one brings.
    extra_cuda_cflags=["-include", str(layer / "lightconv_cuda.cuh"), "-Xfatbin", "-compress-all"],
    extra_cflags=["-g0"],
    is_python_module=False,
)
END
cp "$work/layer/lightconv_cuda.so" "$folder"
ls -l "$folder/lightconv_cuda.so"
