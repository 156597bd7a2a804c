"""Triton kernels for CUDA: lightweight convolution with and without the context gate.

Importing this package needs neither Triton nor a GPU: :func:`supports` says whether its operations
can be used, and only they import Triton. With ``TRITON_INTERPRET=1`` in the environment before
Triton is imported, they run on the CPU, slowly, for tests.
"""

from __future__ import annotations

import functools
import os
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LARGEST_KERNEL = 63


def supports(x: Tensor, kernel_size: int) -> str | None:
    """Why the kernels cannot be used for x, T x B x C; None if they can."""
    if not x.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return f"x is on {x.device.type}, not on a CUDA device"
    if not _is_installed():
        return "Triton is not installed"
    if x.is_cuda and _capability(x.device) < (8, 0):
        return "the GPU's compute capability is below 8.0"
    if x.dtype not in DTYPES:
        return f"x is {x.dtype}, not one of {', '.join(map(str, DTYPES))}"
    if not x.is_cuda and x.dtype == torch.bfloat16:
        return "Triton's interpreter does not multiply bfloat16"
    if kernel_size > LARGEST_KERNEL:
        return f"the kernel has {kernel_size} taps, more than {LARGEST_KERNEL}"
    if x.numel() == 0:
        return "x is empty"
    return None


def light_convolution(x: Tensor, kernel: Tensor, **options: Any) -> Tensor:
    """:func:`fairseq_cgc.core.gpu.operations.light_convolution`."""
    from fairseq_cgc.core.gpu import operations

    return operations.light_convolution(x, kernel, **options)


def cg_light_conv(*args: Any, **options: Any) -> Tensor:
    """:func:`fairseq_cgc.core.gpu.operations.cg_light_conv`."""
    from fairseq_cgc.core.gpu import operations

    return operations.cg_light_conv(*args, **options)


@functools.cache
def _is_installed() -> bool:
    return find_spec("triton") is not None


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)
