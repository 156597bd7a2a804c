"""Triton functions that average a head's channels and pool its positions, and their gradient.

Shape letters: T time, R channels of the head, P pooled positions, L valid positions of the
sentence.
"""

# Parameters of Triton functions are Triton's: capitals are compile-time constants.
# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import triton
import triton.language as tl

from fairseq_cgc.core.gpu.tiles import COUNTED_AT_ONCE


@triton.jit
def _count_valid(mask_ptr, time):
    """L, the number of valid positions."""
    valid = tl.zeros((COUNTED_AT_ONCE,), tl.int32)
    for start in range(0, time, COUNTED_AT_ONCE):
        t = start + tl.arange(0, COUNTED_AT_ONCE)
        valid += (tl.load(mask_ptr + t, mask=t < time, other=1) == 0).to(tl.int32)
    return tl.sum(valid, 0)


@triton.jit
def _rank_positions(mask_ptr, t, time, seen):
    """Which positions of a block are valid, their ranks in the sentence, and how many came so far.

    ``seen`` is the number of valid positions in earlier blocks.
    """
    valid = tl.load(mask_ptr + t, mask=t < time, other=1) == 0
    ranks = seen + tl.cumsum(valid.to(tl.int32), 0) - 1
    return valid, tl.where(valid, ranks, -1), seen + tl.sum(valid.to(tl.int32), 0)


@triton.jit
def _divide_into_bins(length, POOLED, BLOCK_P):
    """The first rank of each bin and the one after its last; bins beyond POOLED hold no rank."""
    p = tl.arange(0, BLOCK_P)
    starts, ends = p, p + 1
    is_long = length >= POOLED
    starts = tl.where(is_long, p * length // POOLED, starts)
    ends = tl.where(is_long, ((p + 1) * length + POOLED - 1) // POOLED, ends)
    return starts, ends


@triton.jit
def pool_head(
    x_ptr,  # T x R: the head's channels at each position
    mask_ptr,  # T, not 0 at padding
    time,
    time_stride,
    WIDTH,
    POOLED,
    BLOCK_T,
    BLOCK_R,
    BLOCK_P,
):
    """Average the R channels of every position, and the positions of every bin: P numbers."""
    length = _count_valid(mask_ptr, time)
    starts, ends = _divide_into_bins(length, POOLED, BLOCK_P)
    pooled = tl.zeros((BLOCK_P,), tl.float32)
    seen = 0
    for start in range(0, time, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        valid, ranks, seen = _rank_positions(mask_ptr, t, time, seen)
        places = x_ptr + t.to(tl.int64) * time_stride
        if WIDTH == 1:
            means = tl.load(places, mask=valid, other=0.0).to(tl.float32)
        else:
            means = tl.zeros((BLOCK_T,), tl.float32)
            for r_start in range(0, WIDTH, BLOCK_R):
                r = r_start + tl.arange(0, BLOCK_R)
                x = tl.load(
                    places[:, None] + r[None, :],
                    mask=valid[:, None] & (r < WIDTH)[None, :],
                    other=0.0,
                )
                means += tl.sum(x.to(tl.float32), 1)
            means = means / WIDTH
        inside = (ranks[None, :] >= starts[:, None]) & (ranks[None, :] < ends[:, None])
        pooled += tl.sum(tl.where(inside, means[None, :], 0.0), 1)
    return pooled / (ends - starts).to(tl.float32)


@triton.jit
def share_out(
    share_ptr,  # T, written: the gradient of every channel at each position
    grad_pooled,  # P
    mask_ptr,
    time,
    WIDTH,
    POOLED,
    BLOCK_T,
    BLOCK_P,
):
    """The gradient of :func:`pool_head`: from that of its result to that of its input."""
    length = _count_valid(mask_ptr, time)
    starts, ends = _divide_into_bins(length, POOLED, BLOCK_P)
    grad_pooled = grad_pooled / ((ends - starts).to(tl.float32) * WIDTH)
    seen = 0
    for start in range(0, time, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        valid, ranks, seen = _rank_positions(mask_ptr, t, time, seen)
        inside = (ranks[None, :] >= starts[:, None]) & (ranks[None, :] < ends[:, None])
        share = tl.sum(tl.where(inside, grad_pooled[:, None], 0.0), 0)
        tl.store(share_ptr + t, share, mask=t < time)
