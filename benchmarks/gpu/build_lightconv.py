"""Build fairseq's own CUDA kernel of LightConv, for ``benchmarks/op.py`` to compare with.

python benchmarks/gpu/build_lightconv.py SOURCES FOLDER

SOURCES has fairseq's ``cuda_utils.cu`` and ``lightconv_layer``; FOLDER gets ``lightconv_cuda.so``.
Only the widths that are measured are built (and 3, for a trial), for Hopper GPUs alone.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from torch.utils.cpp_extension import load

sources, folder = (Path(argument).resolve() for argument in sys.argv[1:])
work = folder / "build"
shutil.copytree(sources, work, dirs_exist_ok=True)
layer = work / "lightconv_layer"
generator = layer / "cuda_function_gen.py"
widths = "[3, 5, 7, 15, 31, 63, 127, 255]"
generator.write_text(generator.read_text().replace(widths, "[3, 7, 31]"))
subprocess.run([sys.executable, generator.name], cwd=layer, check=True)
os.environ["TORCH_CUDA_ARCH_LIST"] = "9.0"
load(
    "lightconv_cuda",
    [str(layer / f"lightconv_cuda{end}") for end in (".cpp", "_kernel.cu")],
    build_directory=str(layer),
    # The kernel's first include needs what its second one brings.
    extra_cuda_cflags=["-include", str(layer / "lightconv_cuda.cuh")],
    is_python_module=False,
)
shutil.copy(layer / "lightconv_cuda.so", folder)
