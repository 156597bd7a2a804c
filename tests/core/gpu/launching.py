"""Where the tests of the Triton kernels run: on a GPU, or without one in Triton's interpreter.

Import this before anything that imports the kernels, which are made for one or the other then.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"
triton = pytest.importorskip("triton", reason="Triton is not installed")

from fairseq_cgc.core.gpu import light_convolution  # noqa: E402

#: So that ``-m gpu`` chooses, on a machine with a GPU, what runs on it.
MARKS = [pytest.mark.gpu] if DEVICE == "cuda" else []

if DEVICE == "cpu":
    # Torch may have imported Triton before the interpreter was chosen: then Triton's own functions,
    # tl.sum for instance, were made for a GPU, and are made again.
    for module in [m for name, m in sys.modules.items() if name.startswith("triton.language")]:
        for name, value in list(vars(module).items()):
            if isinstance(value, triton.JITFunction):
                setattr(module, name, triton.jit(value.fn))

    # The interpreter keeps bfloat16 in integers and multiplies those; GPUs multiply the numbers.
    from triton.runtime import interpreter
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle, tl

    _multiply = InterpreterBuilder.create_dot

    def _multiply_numbers(
        self: InterpreterBuilder, a: TensorHandle, b: TensorHandle, *rest: object
    ) -> TensorHandle:
        if a.dtype.scalar == tl.bfloat16:
            a, b = (
                TensorHandle((x.data.astype(np.uint32) << 16).view(np.float32), tl.float32)
                for x in (a, b)
            )
        return _multiply(self, a, b, *rest)

    InterpreterBuilder.create_dot = _multiply_numbers

    # Its numbers are arrays of one element, which numpy 2.5 and later do not accept as indices.
    _patch_tensor = interpreter._patch_lang_tensor

    def _patch_index(tensor: type, *scope: object) -> None:
        _patch_tensor(tensor, *scope)
        tensor.__index__ = lambda self: int(self.handle.data.item())  # type: ignore[attr-defined]

    interpreter._patch_lang_tensor = _patch_index

#: Largest error of a sum of exact products: tensor cores cut digits off where a CPU rounds.
EXACT = 1e-4 if DEVICE == "cuda" else 1e-5
#: Largest error of a sum that was rounded to the type, of numbers about 1.
ROUNDING = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape).to(DEVICE, dtype).requires_grad_()


def doubles(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


def assert_close(got: list[Tensor], want: list[Tensor], atol: float, rtol: float = 1e-5) -> None:
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one.double(), other, atol=atol, rtol=rtol)


def projected(output: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Gradients of a projection whose weights every dtype can represent."""
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(7)).bfloat16()
    return list(torch.autograd.grad(output, inputs, weights.to(output.device, output.dtype)))


def windows(x: Tensor, size: int, padding_l: int) -> Tensor:
    """What each output position sees: T x B x C to T x B x C x K."""
    return F.pad(x, (0, 0, 0, 0, padding_l, size - 1 - padding_l)).unfold(0, size, 1)


def expected(x: Tensor, taps: Tensor, padding_l: int) -> Tensor:
    """The convolution with taps B or 1 x H x K, or with others at each position: T x B x H x K."""
    heads, size = taps.shape[-2:]
    seen = windows(x, size, padding_l).unflatten(2, (heads, -1))  # T x B x H x R x K
    return (seen * taps.unsqueeze(-2)).sum(-1).flatten(2)


def drawn_taps(shape: tuple[int, ...], dropout: float, seed: int) -> Tensor:
    """DropConnect's factor of each tap, T x B x H x K; taps beyond the ends are NaN."""
    time, batch, _, heads, size, padding_l = shape
    # Convolved with ones, unit vectors show which inputs each output position takes.
    unit = torch.eye(time, device=DEVICE).view(time, 1, 1, time)
    unit = unit.expand(-1, batch, heads, -1).reshape(time, batch, heads * time)
    ones = torch.ones(1, heads, size, device=DEVICE)
    torch.manual_seed(seed)
    band = light_convolution(unit, ones, padding_l=padding_l, dropout=dropout)
    band = F.pad(
        band.view(time, batch, heads, time), (padding_l, size - 1 - padding_l), value=torch.nan
    )
    place = torch.arange(time, device=DEVICE).view(-1, 1) + torch.arange(size, device=DEVICE)
    return band.gather(3, place.view(time, 1, 1, size).expand(-1, batch, heads, -1))


def told(function: Callable[..., Tensor], calls: list[str]) -> Callable[..., Tensor]:
    def run(*args: Any, **options: Any) -> Tensor:
        calls.append(function.__name__)
        return function(*args, **options)

    return run
