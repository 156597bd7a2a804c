"""Compile every Triton kernel that the operations launch for a Hopper GPU, without having one.

Run as a program, with Triton's interpreter off. What a launch would have been compiled for is
compiled, and nothing is run.
"""

from typing import Any

import torch
from triton import compile as compile_kernel
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from fairseq_cgc.core import gpu as kernels

TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.uint8: "u8"}
compiled: set[str] = set()


def launch(function: JITFunction, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
    names = [parameter.name for parameter in function.params]
    values = dict(zip(names, args, strict=False))
    values.update({name: options.pop(name) for name in names if name in options})
    signature, constants, divisible = {}, {}, {}
    for i, parameter in enumerate(function.params):
        value = values[parameter.name]
        is_special = isinstance(value, int) and not parameter.do_not_specialize
        if parameter.is_constexpr or (is_special and value == 1):
            signature[parameter.name], constants[i,] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = f"*{TYPES[value.dtype]}"
            divisible[i,] = [["tt.divisibility", 16]]
        else:
            signature[parameter.name] = "fp32" if isinstance(value, float) else "i32"
            if is_special and value % 16 == 0:
                divisible[i,] = [["tt.divisibility", 16]]
    source = ASTSource(function, signature, constants, divisible)
    result = compile_kernel(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert len(result.asm["cubin"]) > 0
    if values["WIDTH"] % 16 == 0:  # 16 bytes at a time, not 2
        assert "ld.global.b16" not in result.asm["ptx"], function.__name__
    compiled.add(function.__name__)


def gated(
    dtype: torch.dtype, time: int, batch: int, channels: int, heads: int, size: int, *, padded: bool
) -> None:
    latent = size // 2 + 1
    norm = (latent,) if padded else (heads, latent)
    shapes = [(heads, 1, size), (latent, 3 * size), norm, norm, (size, latent)]
    parameters = [torch.zeros(shape, requires_grad=True) for shape in shapes]
    x = torch.zeros(time, batch, channels, dtype=dtype, requires_grad=True)
    kernels.cg_light_conv(
        x,
        torch.zeros(batch, time, dtype=torch.bool) if padded else None,
        *parameters,
        norm_eps=1e-5,
        weight_softmax=padded,
        gate_target="kernel" if padded else "logits",
        dropout=0.1 if padded else 0.0,
    ).sum().backward()


if __name__ == "__main__":
    JITFunction.run = launch
    gated(torch.bfloat16, 28, 2, 512, 4, 31, padded=True)
    gated(torch.bfloat16, 100, 2, 512, 4, 31, padded=False)
    gated(torch.float32, 200, 2, 512, 4, 63, padded=False)
    gated(torch.float16, 1, 1, 6, 2, 1, padded=True)
    for shared in (True, False):
        x = torch.zeros(70, 2, 96, dtype=torch.float16, requires_grad=True)
        kernel = torch.zeros(1 if shared else 2, 32, 4, requires_grad=True)
        kernels.light_convolution(x, kernel, padding_l=3).sum().backward()
    print(*sorted(compiled))
