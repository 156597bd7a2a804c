"""Context pooling: inputs of any size on a fixed grid (section 3.2).

Shape letters: B batch, T time, C channels, H heads, R = C / H channels per head,
P pooled positions. A ``padding_mask`` is B x T, True at padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_cgc.core.plain import is_autocast_on, must_be_plain

#: The functions for 1, 2 and 3 dimensions, of x, B x c x spatial, and the grid's size.
POOLS: dict[str, tuple[Callable[..., Tensor], ...]] = {
    "avg": (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    "max": (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
}


def pool_to_grid(x: Tensor, grid_size: Sequence[int], pool: Callable[..., Tensor]) -> Tensor:
    """Pool B x c x spatial to B x c x grid with one of :data:`POOLS`."""
    if not torch.onnx.is_in_onnx_export():
        return pool(x, grid_size)
    # ONNX has no adaptive pooling. Bins are boxes, so one dimension can be pooled after the other.
    for dim, bins in enumerate(grid_size, start=2):
        x = _pool_last(x.transpose(dim, -1), bins, pool in POOLS["avg"]).transpose(dim, -1)
    return x


def _pool_last(x: Tensor, bins: int, is_mean: bool) -> Tensor:
    """Pool the last dimension, n, whose bin i covers floor(i n / bins) to ceil((i+1) n / bins)."""
    n: Any = x.shape[-1]  # a tensor under torch.jit.trace
    index = torch.arange(bins, device=x.device).unsqueeze(1)
    start = torch.div(index * n, bins, rounding_mode="floor")
    end = torch.div((index + 1) * n + bins - 1, bins, rounding_mode="floor")
    position = torch.arange(n, device=x.device)
    inside = (position >= start) & (position < end)  # bins x n
    if is_mean:
        return x @ (inside.to(x.dtype) / (end - start)).t()
    return x.unsqueeze(-2).masked_fill(~inside, -torch.inf).amax(-1)


def sentence_pooling_matrix(
    lengths: Tensor, ranks: Tensor, pooled_size: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The linear map from the valid positions of each sentence to its pooled positions.

    Bin i of a sentence of length L >= P averages its positions from floor(i L / P) to
    ceil((i + 1) L / P) - 1; a shorter sentence keeps its L values, followed by zeros (section 4.4).

    Args:
        lengths: B, number of valid positions of each sentence.
        ranks: B x T, a valid position's index within its sentence, -1 at padding.
        pooled_size: P.
        dtype: of the result.

    Returns:
        B x P x T; its rows sum to one, or to zero past the end of a short sentence.
    """
    length = lengths.unsqueeze(1)  # B x 1
    bins = torch.arange(pooled_size, device=lengths.device).unsqueeze(0)  # 1 x P
    long_enough = length >= pooled_size
    start = torch.where(long_enough, bins * length // pooled_size, bins)  # B x P
    # The ceiling of (i + 1) L / P without negative numbers, which ONNX divides differently.
    ceiling = ((bins + 1) * length + pooled_size - 1) // pooled_size
    end = torch.where(long_enough, ceiling, bins + 1)
    rank = ranks.unsqueeze(1)  # B x 1 x T
    inside = (rank >= start.unsqueeze(2)) & (rank < end.unsqueeze(2))  # B x P x T
    return inside.to(dtype) / (end - start).unsqueeze(2)


class _MaskAndAverage(torch.autograd.Function):
    """:func:`mask_and_average` with a derivative of its own.

    Autograd would write the whole gradient three times: for the mean, for the sum of both outputs'
    gradients, and for the mask. This writes it once.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, num_heads: int, padding_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        ctx.padding_mask, ctx.num_heads = padding_mask, num_heads
        if padding_mask is None:
            masked = x.view_as(x)  # a forward must not return its input itself
        else:
            masked = _zero_padding_(x.clone(memory_format=torch.contiguous_format), padding_mask)
        return masked, average_heads(masked, num_heads)

    @staticmethod
    def backward(ctx: Any, grad_x: Tensor, grad_heads: Tensor) -> tuple[Tensor, None, None]:
        width = grad_x.shape[2] // ctx.num_heads
        share = (grad_heads / width).to(grad_x.dtype).unsqueeze(3)
        grad = grad_x.contiguous().view(*grad_heads.shape, width) + share
        grad = grad.view(grad_x.shape)
        if ctx.padding_mask is not None:
            _zero_padding_(grad, ctx.padding_mask)
        return grad, None, None


def average_heads(x: Tensor, num_heads: int) -> Tensor:
    """Average each head's channels, in float32 at least: T x B x C to T x B x H."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return x.unflatten(2, (num_heads, -1)).mean(-1, dtype=dtype)


def _zero_padding_(x: Tensor, padding_mask: Tensor) -> Tensor:
    """:func:`zero_padding` in place, for a contiguous x."""
    if x.device.type == "cpu":
        x.view(-1, x.shape[2]).index_fill_(0, _padded_rows(padding_mask), 0)
        return x
    return x.masked_fill_(padding_mask.t().unsqueeze(2), 0)


def _padded_rows(padding_mask: Tensor) -> Tensor:
    """Indices of the padded positions in T x B order.

    On a CPU, filling these is ten times as fast as masked_fill; on a GPU, nonzero() would wait.
    """
    return padding_mask.t().reshape(-1).nonzero().squeeze(1)


def zero_padding(x: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Set the padded positions of x, T x B x C, to zero; returns x itself without a mask."""
    if padding_mask is None:
        return x
    if x.device.type == "cpu" and not must_be_plain(x, compiles=False):
        rows = _padded_rows(padding_mask)
        return x.reshape(-1, x.shape[2]).index_fill(0, rows, 0).view(x.shape)
    return x.masked_fill(padding_mask.t().unsqueeze(2), 0)


def mask_and_average(
    x: Tensor, num_heads: int, padding_mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Set padding to zero and average the channels of each head, in one step.

    Args:
        x: T x B x C.
        num_heads: H; head h owns channels h R to (h + 1) R - 1.

    Returns:
        x with zeros at padded positions (a NaN would survive multiplication by zero), and the
        heads' means, T x B x H, in float32 at least: half precision would lose the small
        differences between heads.
    """
    if must_be_plain(x, compiles=False):
        x = zero_padding(x, padding_mask)
        return x, average_heads(x, num_heads)
    return _MaskAndAverage.apply(x, num_heads, padding_mask)


def pool_positions(heads: Tensor, pooled_size: int, padding_mask: Tensor | None = None) -> Tensor:
    """Pool each sentence to P positions: T x B x H, zero at padding, to B x H x P.

    Only valid positions count, so the result depends neither on the other sentences of the batch
    nor on the side of the padding.
    """
    if is_autocast_on(heads.device.type):  # it would sum in half precision
        with torch.autocast(heads.device.type, enabled=False):
            return pool_positions(heads, pooled_size, padding_mask)
    if padding_mask is None:
        valid = torch.ones_like(heads[:, :1, 0], dtype=torch.bool).t()  # 1 x T
    else:
        valid = ~padding_mask
    counts = valid.long()
    lengths = counts.sum(1)
    ranks = torch.where(valid, counts.cumsum(1) - 1, -1)
    heads = heads.permute(1, 2, 0)  # B x H x T
    if not must_be_plain(heads, compiles=False) and heads.shape[2] <= pooled_size:
        return _keep_positions(heads, ranks, pooled_size)
    matrix = sentence_pooling_matrix(lengths, ranks, pooled_size, heads.dtype)  # B or 1 x P x T
    return heads @ matrix.transpose(1, 2)


def _keep_positions(heads: Tensor, ranks: Tensor, pooled_size: int) -> Tensor:
    """Pool heads, B x H x T, for T <= P, where each value has its own bin; ranks are B or 1 x T."""
    batch, num_heads, time = heads.shape
    # Padding goes to bins beyond the last, one for each value, so that no two values collide.
    beyond = torch.arange(pooled_size, pooled_size + time, device=ranks.device)
    bins = torch.where(ranks < 0, beyond, ranks).unsqueeze(1).expand_as(heads)
    kept = heads.new_zeros(batch, num_heads, pooled_size + time).scatter(2, bins, heads)
    return kept[:, :, :pooled_size]


def pool_heads(
    x: Tensor, num_heads: int, pooled_size: int, padding_mask: Tensor | None = None
) -> Tensor:
    """Average the channels of each head, then pool each sentence to a fixed length.

    Args:
        x: T x B x C.
        num_heads: H.
        pooled_size: P.
        padding_mask: B x T, True at padding.

    Returns:
        B x H x P, in float32, or float64 for float64 input.
    """
    _, heads = mask_and_average(x, num_heads, padding_mask)
    return pool_positions(heads, pooled_size, padding_mask)
