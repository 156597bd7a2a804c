"""The bins that context pooling averages, as the kernels that pool see them.

P pooled positions, L valid positions of a sentence.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl


@triton.jit
def count_valid(mask_ptr: tl.tensor, time: tl.tensor) -> Any:
    """L, the number of valid positions."""
    valid = tl.zeros((1024,), tl.int32)
    for start in range(0, time, 1024):
        t = start + tl.arange(0, 1024)
        valid += (tl.load(mask_ptr + t, mask=t < time, other=1) == 0).to(tl.int32)
    return tl.sum(valid, 0)


@triton.jit
def rank_positions(mask_ptr: tl.tensor, t: tl.tensor, time: tl.tensor, seen: tl.tensor) -> Any:
    """Which positions are valid, their indices within the sentence, and how many were seen.

    Positions are ranked block after block; ``seen`` is what the last block returned.
    """
    valid = tl.load(mask_ptr + t, mask=t < time, other=1) == 0
    ranks = seen + tl.cumsum(valid.to(tl.int32), 0) - 1
    return valid, tl.where(valid, ranks, -1), seen + tl.sum(valid.to(tl.int32), 0)


@triton.jit
def divide_into_bins(length: tl.tensor, POOLED: tl.constexpr, BLOCK_P: tl.constexpr) -> Any:
    """The first rank of each bin and the first after it; beyond POOLED no rank is inside."""
    p = tl.arange(0, BLOCK_P)
    starts, ends = p, p + 1
    is_long = length >= POOLED
    starts = tl.where(is_long, p * length // POOLED, starts)
    ends = tl.where(is_long, ((p + 1) * length + POOLED - 1) // POOLED, ends)
    return starts, ends
