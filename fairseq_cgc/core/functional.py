"""Lightweight convolution, with one kernel for all sentences or a kernel for each.

:func:`light_convolution` chooses between four methods with the same result: ``band`` turns each
kernel into a T x T band matrix, the fastest for sentences on a CPU; ``blocked`` cuts long inputs
into blocks that share one small band matrix, in time and memory linear in T; ``triton`` is a GPU
kernel; ``unfolded`` is for whatever transforms, traces or exports the computation
(:mod:`~fairseq_cgc.core.plain`), and for empty inputs.

Shape letters: B batch, T time, C channels, H heads, R = C / H channels per head, K kernel.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_cgc.core import gpu as kernels
from fairseq_cgc.core.dropout import apply_mask, draw_mask, dropout
from fairseq_cgc.core.plain import must_be_plain, to_autocast_dtype
from fairseq_cgc.support.errors import UserError

logger = logging.getLogger(__name__)

#: Environment variable that forces one of :data:`METHODS`.
FORCE = "FAIRSEQ_CGC_KERNEL"
#: Positions from which on ``blocked`` needs less time and memory (benchmarks/op.py).
BLOCKED_FROM = 96
#: Output positions of a block.
BLOCK = 32


def unfolded(x: Tensor, kernel: Tensor, padding_l: int, dropout: float) -> Tensor:
    """From a window of K inputs for every position, in O(T x K) time and memory.

    Every transform, tracer and exporter of torch can handle it, for other lengths too.
    """
    num_heads, kernel_size = kernel.shape[1:]
    time, batch = x.shape[:2]
    kernel = kernel.to(x.dtype)
    if dropout > 0.0:
        taps = F.dropout(kernel.expand(time, batch, num_heads, kernel_size), dropout)
    else:
        taps = kernel.unsqueeze(0)
    start = torch.arange(time, device=x.device).unsqueeze(1)  # T x 1
    positions = start + torch.arange(kernel_size, device=x.device)
    padded = F.pad(x, (0, 0, 0, 0, padding_l, kernel_size - 1 - padding_l))
    windows = padded[positions].unflatten(3, (num_heads, -1))  # T x K x B x H x R
    return torch.einsum("tkbhr,tbhk->tbhr", windows, taps).flatten(2)


def band(x: Tensor, kernel: Tensor, padding_l: int, p: float) -> Tensor:
    """As one matrix product, in O(T x T) time and memory."""
    time, batch, channels = x.shape
    groups = batch * kernel.shape[1]
    # Cast only now, so that the kernel's gradient, a sum over diagonals, is in the kernel's dtype.
    matrix = band_matrix(kernel, time, time, padding_l).to(x.dtype)
    matrix = matrix.expand(batch, -1, -1, -1).reshape(groups, time, time)
    x = x.reshape(time, groups, channels // kernel.shape[1]).transpose(0, 1)  # BH x T x R
    return (dropout(matrix, p) @ x).transpose(0, 1).reshape(time, batch, channels)


def band_matrix(kernel: Tensor, rows: int, columns: int, shift: int) -> Tensor:
    """Entry (t, s) is tap s - t + shift of the kernel: n x H x K to n x H x rows x columns."""
    # Each row is the row below it shifted by one, so all rows are windows of one padded kernel,
    # cropped where the input is shorter than the kernel.
    kernel_size = kernel.shape[2]
    left, right = rows - 1 - shift, columns - kernel_size + shift
    return F.pad(kernel, (left, right)).unfold(2, columns, 1).flip(2)


def blocked(x: Tensor, kernel: Tensor, padding_l: int, dropout: float) -> Tensor:
    """Block by block, in O(T) time and memory.

    The blocks of a sentence share one small band matrix. Forward and backward pass over the input
    once, and keep only the input and DropConnect's masks.
    """
    batch, (num_heads, kernel_size) = x.shape[1], kernel.shape[1:]
    groups, seen = batch * num_heads, BLOCK + kernel_size - 1
    matrix = band_matrix(kernel, BLOCK, seen, 0)
    matrix = matrix.expand(batch, -1, -1, -1).reshape(groups, BLOCK, seen)
    return _Blocks.apply(x, matrix, kernel_size, padding_l, dropout)


class _Blocks(torch.autograd.Function):
    """The product of every block with the band matrix, BH x BLOCK x (BLOCK + K - 1)."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, matrix: Tensor, kernel_size: int, padding_l: int, dropout: float
    ) -> Tensor:
        x = _by_group(inputs, len(matrix))
        out = torch.empty_like(x)
        drawn, scale, taps = [], 1.0, matrix.to(x.dtype)
        for positions, seen, columns in _spans(len(x), kernel_size, padding_l):
            part = taps[:, : positions.stop - positions.start, columns]
            if dropout > 0.0:
                kept, scale = draw_mask(part, dropout)
                drawn.append(kept)
                part = apply_mask(part, kept, scale)
            out[positions] = (part @ x[seen].transpose(0, 1)).transpose(0, 1)
        ctx.save_for_backward(inputs, matrix, *drawn)
        ctx.how = (kernel_size, padding_l, scale)
        return out.view(inputs.shape)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        x, matrix, *drawn = ctx.saved_tensors
        kernel_size, padding_l, scale = ctx.how
        # With create_graph=True autograd records what follows, so it uses only the saved inputs and
        # differentiable operations.
        shape, x, grad_out = x.shape, _by_group(x, len(matrix)), _by_group(grad_out, len(matrix))
        grad_x, taps = torch.zeros_like(x), matrix.to(x.dtype)
        # Half precision would lose the last terms of this sum over all blocks.
        dtype = torch.promote_types(matrix.dtype, torch.float32)
        grad_matrix = torch.zeros_like(matrix, dtype=dtype)
        for i, (positions, seen, columns) in enumerate(_spans(len(x), kernel_size, padding_l)):
            grad = grad_out[positions].transpose(0, 1)  # BH x rows x R
            part = taps[:, : grad.shape[1], columns]
            grad_part = grad @ x[seen].permute(1, 2, 0)
            if drawn:
                part, grad_part = (apply_mask(m, drawn[i], scale) for m in (part, grad_part))
            grad_matrix[:, : grad.shape[1], columns] += grad_part
            grad_x[seen] += (part.transpose(1, 2) @ grad).transpose(0, 1)
        return grad_x.view(shape), grad_matrix.to(matrix.dtype), None, None, None


def _by_group(x: Tensor, groups: int) -> Tensor:
    """T x B x C to T x BH x R."""
    return x.reshape(len(x), groups, x.shape[1] * x.shape[2] // groups)


def _spans(time: int, kernel_size: int, padding_l: int) -> Iterator[tuple[slice, slice, slice]]:
    """For each block: its positions, the input positions they see, and the matrix's columns."""
    for start in range(0, time, BLOCK):
        first = max(0, start - padding_l)
        last = min(time, start - padding_l + BLOCK + kernel_size - 1)
        columns = slice(first - start + padding_l, last - start + padding_l)
        yield slice(start, min(time, start + BLOCK)), slice(first, last), columns


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
        kernel: B x H x K, or 1 x H x K for one kernel for all sentences. In half precision its
            gradient, a sum over all positions, is exact only if the kernel is in float32.
        padding_l: zeros before the first position, 0 to K - 1 (a decoder's: it looks back only);
            K - 1 - padding_l follow the last. K // 2 by default.
        dropout: probability of DropConnect, drawn independently for each output position as in
            fairseq's lightweight convolution.
        training: whether DropConnect is active.

    Returns:
        T x B x C in x's dtype whatever the kernel's, or in autocast's.

    Raises:
        UserError: for another padding_l, or as :func:`choose_method`.
    """
    kernel_size = kernel.shape[2]
    if padding_l is None:
        padding_l = kernel_size // 2
    elif not 0 <= padding_l < kernel_size:
        raise UserError(f"padding_l must be from 0 to {kernel_size - 1}, but is {padding_l}")
    x = to_autocast_dtype(x)
    method = "unfolded" if needs_unfolded(x) else choose_method(x, kernel_size)
    return METHODS[method](x, kernel, padding_l, dropout if training else 0.0)


def needs_unfolded(x: Tensor) -> bool:
    """Whether no other method can be used, whatever FAIRSEQ_CGC_KERNEL says."""
    return must_be_plain(x, compiles=False) or x.numel() == 0


def choose_method(x: Tensor, kernel_size: int) -> str:
    """The fastest method for an input T x B x C, logged when first used.

    Raises:
        UserError: if the environment variable FAIRSEQ_CGC_KERNEL names no method, or ``triton``
            where that cannot be used.
    """
    forced = os.environ.get(FORCE)
    if forced is not None and forced not in METHODS:
        raise UserError(f"{FORCE} is {forced!r}, but must be one of {', '.join(METHODS)}")
    obstacle = kernels.supports(x, kernel_size)
    if forced == "triton" and obstacle is not None:
        raise UserError(f"{FORCE} is 'triton', but {obstacle}")
    if forced is not None:
        _log_method(forced, f"forced by {FORCE}")
        return forced
    if x.is_cuda and obstacle is None:
        _log_method("triton", "on a GPU")
        return "triton"
    if x.is_cuda:
        _warn(f"without the GPU kernel, because {obstacle}")
    method = "blocked" if len(x) >= max(BLOCKED_FROM, 3 * kernel_size) else "band"
    _log_method(method, "by length")
    return method


@functools.cache
def _warn(what: str) -> None:
    logger.warning("lightweight convolution %s", what)


@functools.cache
def _log_method(method: str, why: str) -> None:
    logger.debug("lightweight convolution: %s (%s)", method, why)


def _triton(x: Tensor, kernel: Tensor, padding_l: int, dropout: float) -> Tensor:
    return kernels.light_convolution(x, kernel, padding_l=padding_l, dropout=dropout)


#: Each method by its name, a function of x, kernel, padding_l and dropout.
METHODS: dict[str, Callable[[Tensor, Tensor, int, float], Tensor]] = {
    "band": band,
    "blocked": blocked,
    "triton": _triton,
    "unfolded": unfolded,
}
