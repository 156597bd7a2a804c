"""The convolution block by block, for long inputs: time and memory grow with T.

The blocks of a sentence share one small band matrix. Forward and backward go through the input
once, a block at a time, and keep nothing but the input and DropConnect's masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fairseq_cgc.core.band import band_matrix
from fairseq_cgc.core.dropout import apply_mask, draw_mask

#: Output positions of a block.
BLOCK = 32


def blocked(x: Tensor, kernel: Tensor, padding_l: int, dropout: float) -> Tensor:
    """:func:`~fairseq_cgc.core.functional.light_convolution` in O(T) time and memory."""
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
        # With create_graph=True autograd records what follows, so it uses the saved inputs
        # themselves and differentiable operations only.
        shape, x, grad_out = x.shape, _by_group(x, len(matrix)), _by_group(grad_out, len(matrix))
        grad_x, taps = torch.zeros_like(x), matrix.to(x.dtype)
        # Half precision would lose the last terms of this sum over all blocks.
        grad_matrix = torch.zeros_like(
            matrix, dtype=torch.promote_types(matrix.dtype, torch.float32)
        )
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
    """For each block: its positions, the input positions that they see, and their columns."""
    for start in range(0, time, BLOCK):
        first = max(0, start - padding_l)
        last = min(time, start - padding_l + BLOCK + kernel_size - 1)
        columns = slice(first - start + padding_l, last - start + padding_l)
        yield slice(start, min(time, start + BLOCK)), slice(first, last), columns
