"""Dropout whose masks a CPU draws ten times as fast as torch does.

torch draws a mask number by number from one serial generator. Here every call takes one seed from
that generator, so ``torch.manual_seed``, resuming and gradient checkpointing work as with torch's
dropout, and SFC64 (Doty-Humphrey, PractRand) makes four 16-bit draws at each of its steps. On other
devices, and where a computation is recorded or transformed, this is torch's dropout.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_cgc.core.plain import must_be_plain
from fairseq_cgc.support.errors import UserError

#: Environment variable that forces torch's masks, which are fairseq's.
FORCE = "FAIRSEQ_CGC_DROPOUT"
#: Number of equally likely draws.
_DRAWS = 2**16
#: Elements masked at a time: their 128 KiB of draws stay in a core's cache.
_CHUNK = 2**16
#: Floating type -> the integers of the same width.
_INTEGERS = {
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}


def dropout(x: Tensor, p: float, *, inplace: bool = False) -> Tensor:
    """Zero elements of x with probability p, and divide the others by 1 - p.

    Args:
        x: any shape.
        p: from 0 to 1; rounded to a multiple of 2^-16 on a CPU, in the divisor too.
        inplace: overwrite x.

    Raises:
        UserError: if the environment variable FAIRSEQ_CGC_DROPOUT is neither unset nor "torch".
    """
    if not _is_fast(x, p):
        return F.dropout(x, p, inplace=inplace)
    dropped: Tensor = _Masked.apply(x, *_draw(x.shape, p))
    return x.copy_(dropped) if inplace else dropped


def draw_mask(x: Tensor, p: float) -> tuple[Tensor, float]:
    """Which elements of x :func:`dropout` keeps, in x's shape, and their factor."""
    if not _is_fast(x, p):
        kept = F.dropout(torch.ones_like(x, requires_grad=False), p).bool()
        return kept, 1 / (1 - p) if p < 1 else 0.0
    return _draw(x.shape, p)


def _draw(shape: torch.Size, p: float) -> tuple[Tensor, float]:
    threshold = round(p * _DRAWS)
    generator = np.random.SFC64(int(torch.randint(2**63 - 1, (), device="cpu")))
    mask = np.empty(shape.numel(), dtype=bool)
    for start in range(0, mask.size, _CHUNK):
        part = mask[start : start + _CHUNK]
        draws = generator.random_raw(-(-part.size // 4)).view(np.uint16)
        np.greater_equal(draws[: part.size], threshold, out=part)
    return torch.from_numpy(mask).view(shape), _DRAWS / (_DRAWS - threshold)


def _is_fast(x: Tensor, p: float) -> bool:
    forced = os.environ.get(FORCE)
    if forced not in (None, "torch"):
        raise UserError(f"{FORCE} is {forced!r}, but must be 'torch' or unset")
    return (
        forced is None
        and not must_be_plain(x, compiles=False)
        and type(x) in (Tensor, nn.Parameter)
        and x.device.type == "cpu"
        and x.dtype in _INTEGERS
        and 0 < round(p * _DRAWS) < _DRAWS
    )


def apply_mask(x: Tensor, mask: Tensor, scale: float) -> Tensor:
    """x times scale where the mask, of x's shape, is True, else zero."""
    records = x.requires_grad and torch.is_grad_enabled()
    if records or x.device.type != "cpu" or x.dtype not in _INTEGERS:
        return (x * scale).masked_fill(~mask, 0)
    source, out = x.reshape(-1), x.new_empty(x.numel())
    # numpy multiplies integers with booleans several times as fast as torch masks numbers.
    bits, kept = out.view(_INTEGERS[x.dtype]).numpy(), mask.reshape(-1).numpy()
    for start in range(0, len(out), _CHUNK):
        part = slice(start, start + _CHUNK)
        torch.mul(source[part], scale, out=out[part])
        np.multiply(bits[part], kept[part], out=bits[part])
    return out.view(x.shape)


class _Masked(torch.autograd.Function):
    """:func:`apply_mask`, whose derivative is itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return apply_mask(x, mask, scale)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return _Masked.apply(grad_out, mask, ctx.scale), None, None
