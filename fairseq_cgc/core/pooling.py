"""Context pooling: a channel's input, whatever its size, on a fixed grid.

Shape letters: B batch, T time, C channels, H heads, R = C / H channels per head,
P pooled positions.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sentence_pooling_matrix(
    lengths: Tensor, ranks: Tensor, pooled_size: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The linear map from the valid positions of each sentence to its pooled positions.

    Bin i of a sentence of length L >= P averages its positions floor(i L / P) up to
    ceil((i + 1) L / P); a shorter sentence keeps its L values, zeros follow (paper,
    section 4.4).

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
    # -(-a // b) is the ceiling of a / b.
    end = torch.where(long_enough, -(-(bins + 1) * length // pooled_size), bins + 1)
    rank = ranks.unsqueeze(1)  # B x 1 x T
    inside = (rank >= start.unsqueeze(2)) & (rank < end.unsqueeze(2))  # B x P x T
    return inside.to(dtype) / (end - start).unsqueeze(2)


def pool_heads(
    x: Tensor, num_heads: int, pooled_size: int, padding_mask: Tensor | None = None
) -> Tensor:
    """Average the channels of each head, then pool each sentence to a fixed length.

    Only valid positions count, so the result does not depend on what a sentence is batched
    with, nor on the side of its padding. Sums are taken in float32 (float64 for float64
    input): half-precision input would otherwise lose the small differences between heads.

    Args:
        x: T x B x C.
        num_heads: H; head h owns channels h R to (h + 1) R - 1.
        pooled_size: P.
        padding_mask: B x T, True at padding.

    Returns:
        B x H x P, in float32, or float64 for float64 input.
    """
    time, batch, channels = x.shape
    dtype = torch.promote_types(x.dtype, torch.float32)
    heads = x.view(time, batch, num_heads, channels // num_heads).mean(-1, dtype=dtype)  # T x B x H
    if padding_mask is None:
        lengths = torch.full((1,), time, device=x.device)
        ranks = torch.arange(time, device=x.device).unsqueeze(0)
    else:
        # A NaN or an infinity at padding would survive the multiplication by zero below.
        heads = heads.masked_fill(padding_mask.t().unsqueeze(2), 0)
        valid = ~padding_mask
        lengths = valid.sum(1)
        ranks = torch.where(valid, valid.cumsum(1) - 1, -1)
    matrix = sentence_pooling_matrix(lengths, ranks, pooled_size, dtype)  # B or 1 x P x T
    # B x H x T times B x T x P
    return heads.permute(1, 2, 0) @ matrix.transpose(1, 2)
