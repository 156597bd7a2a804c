"""Lightweight convolution, with one kernel for all sentences or a kernel for each.

Two ways to the same result, chosen by :func:`light_convolution`: ``band`` turns each kernel into a
T x T band matrix, the fastest way for sentences; ``blocked`` cuts long inputs into blocks that
share one small band matrix, so that time and memory grow with T and not with its square.

Shape letters: B batch, T time, C channels, H heads, R = C / H channels per head, K kernel.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from fairseq_cgc.core.errors import UserError

logger = logging.getLogger(__name__)

#: Environment variable that forces one of :data:`METHODS`.
FORCE = "FAIRSEQ_CGC_KERNEL"
#: Positions from which on ``blocked`` needs less time and memory (benchmarks/op.py).
BLOCKED_FROM = 128
#: Output positions of a block.
BLOCK = 32


def light_convolution(
    x: Tensor,
    kernel: Tensor,
    *,
    padding_l: int | None = None,
    dropout: float = 0.0,
    training: bool = False,
) -> Tensor:
    """Convolve every channel of a head with that head's kernel, zeros beyond both ends.

    Args:
        x: T x B x C, zero at padded positions.
        kernel: B x H x K, or 1 x H x K for one kernel for all sentences.
        padding_l: zeros before the first position, 0 to K - 1; K - 1 - padding_l follow the
            last. K - 1 looks back only, as a decoder must; K // 2 where it is None.
        dropout: probability of DropConnect, drawn for each output position by itself as
            fairseq's lightweight convolution draws it.
        training: whether DropConnect is active.

    Returns:
        T x B x C.

    Raises:
        UserError: for another padding_l, or if the environment variable FAIRSEQ_CGC_KERNEL names
            no method.
    """
    kernel_size = kernel.shape[2]
    if padding_l is None:
        padding_l = kernel_size // 2
    if not 0 <= padding_l < kernel_size:
        raise UserError(f"padding_l must be from 0 to {kernel_size - 1}, but is {padding_l}")
    method = choose_method(x, kernel_size)
    return METHODS[method](x, kernel, padding_l, dropout if training else 0.0)


def choose_method(x: Tensor, kernel_size: int) -> str:
    """The method for an input T x B x C, told in the log when first used.

    Raises:
        UserError: if the environment variable FAIRSEQ_CGC_KERNEL names no method.
    """
    forced = os.environ.get(FORCE)
    if forced is not None and forced not in METHODS:
        raise UserError(f"{FORCE} is {forced!r}, but must be {' or '.join(METHODS)}")
    method = forced or ("blocked" if len(x) >= max(BLOCKED_FROM, 4 * kernel_size) else "band")
    _tell(method, forced is not None)
    return method


@functools.cache
def _tell(method: str, is_forced: bool) -> None:
    why = f"forced by {FORCE}" if is_forced else f"blocked from {BLOCKED_FROM} positions on"
    logger.debug("lightweight convolution: %s (%s)", method, why)


def _band(x: Tensor, kernel: Tensor, padding_l: int, dropout: float) -> Tensor:
    time, batch, channels = x.shape
    groups = batch * kernel.shape[1]
    band = _band_matrix(kernel, time, time, padding_l)
    band = band.expand(batch, -1, -1, -1).reshape(groups, time, time)
    x = x.reshape(time, groups, channels // kernel.shape[1]).transpose(0, 1)  # BH x T x R
    return (F.dropout(band, dropout) @ x).transpose(0, 1).reshape(time, batch, channels)


def _blocked(x: Tensor, kernel: Tensor, padding_l: int, dropout: float) -> Tensor:
    time, batch, channels = x.shape
    num_heads, kernel_size = kernel.shape[1:]
    groups, width = batch * num_heads, channels // num_heads
    blocks = -(-time // BLOCK)
    seen = BLOCK + kernel_size - 1  # input positions of a block
    x = F.pad(x, (0, 0, 0, 0, padding_l, blocks * BLOCK - time + kernel_size - 1 - padding_l))
    # blocks x BH x R x seen, a view: neighbours share K - 1 positions.
    windows = x.reshape(len(x), groups, width).unfold(0, seen, BLOCK)
    band = _band_matrix(kernel, BLOCK, seen, 0).expand(batch, -1, -1, -1)
    band = band.reshape(groups, BLOCK, seen)
    if dropout == 0.0:  # all blocks of a sentence share the matrix: one product
        columns = windows.permute(1, 3, 0, 2).reshape(groups, seen, blocks * width)
        out = (band @ columns).view(groups, BLOCK, blocks, width).permute(2, 1, 0, 3)
    else:
        drawn = F.dropout(band.unsqueeze(0).expand(blocks, -1, -1, -1), dropout)
        out = (drawn @ windows.transpose(2, 3)).transpose(1, 2)  # blocks x BLOCK x BH x R
    return out.reshape(blocks * BLOCK, batch, channels)[:time]


METHODS: dict[str, Callable[[Tensor, Tensor, int, float], Tensor]] = {
    "band": _band,
    "blocked": _blocked,
}


def _band_matrix(kernel: Tensor, rows: int, columns: int, shift: int) -> Tensor:
    """Entry (t, s) is tap s - t + shift of the kernel: n x H x K to n x H x rows x columns."""
    # Every row is the row below it moved by one, so all rows are windows of one padded (or,
    # where the input is shorter than the kernel, cropped) kernel.
    kernel_size = kernel.shape[2]
    left, right = rows - 1 - shift, columns - kernel_size + shift
    return F.pad(kernel, (left, right)).unfold(2, columns, 1).flip(2)
