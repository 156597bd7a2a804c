"""What the kernels share: pooling within a kernel, sizes of blocks, and DropConnect's draws.

Block sizes depend on the input as coarsely as possible: every new size compiles a kernel again.

Shape letters: T time, R channels of the head, P pooled positions, L valid positions of the
sentence, H heads.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl


@triton.jit
def _count_valid(mask_ptr: tl.tensor, time: tl.tensor) -> Any:
    """L, the number of valid positions."""
    valid = tl.zeros((1024,), tl.int32)
    for start in range(0, time, 1024):
        t = start + tl.arange(0, 1024)
        valid += (tl.load(mask_ptr + t, mask=t < time, other=1) == 0).to(tl.int32)
    return tl.sum(valid, 0)


@triton.jit
def _rank_positions(mask_ptr: tl.tensor, t: tl.tensor, time: tl.tensor, seen: tl.tensor) -> Any:
    """Which positions are valid, their indices within the sentence, and how many were seen.

    Positions are ranked block after block; ``seen`` is what the last block returned.
    """
    valid = tl.load(mask_ptr + t, mask=t < time, other=1) == 0
    ranks = seen + tl.cumsum(valid.to(tl.int32), 0) - 1
    return valid, tl.where(valid, ranks, -1), seen + tl.sum(valid.to(tl.int32), 0)


@triton.jit
def _divide_into_bins(length: tl.tensor, POOLED: tl.constexpr, BLOCK_P: tl.constexpr) -> Any:
    """The first rank of each bin and the first after it; beyond POOLED no rank is inside."""
    p = tl.arange(0, BLOCK_P)
    starts, ends = p, p + 1
    is_long = length >= POOLED
    starts = tl.where(is_long, p * length // POOLED, starts)
    ends = tl.where(is_long, ((p + 1) * length + POOLED - 1) // POOLED, ends)
    return starts, ends


@triton.jit
def pool_head(
    x_ptr: tl.tensor,  # T x R: the head's channels at each position
    mask_ptr: tl.tensor,  # T, not 0 at padding
    time: tl.tensor,
    time_stride: tl.tensor,
    WIDTH: tl.constexpr,
    POOLED: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_P: tl.constexpr,
) -> Any:
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
    share_ptr: tl.tensor,  # T, written: the gradient of each channel at each position
    grad_pooled: tl.tensor,  # P
    mask_ptr: tl.tensor,
    time: tl.tensor,
    WIDTH: tl.constexpr,
    POOLED: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_P: tl.constexpr,
) -> None:
    """From the gradient of what :func:`pool_head` returned to its input's."""
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


#: Tensor cores multiply tiles of at least this many rows and columns.
SMALLEST = 16
#: Positions of a block for inputs that have no more.
SHORT = 32


def power_of_two(size: int) -> int:
    """The smallest block that holds ``size`` numbers."""
    return max(SMALLEST, 1 << (size - 1).bit_length())


def count_blocks(size: int, block: int) -> int:
    """How many blocks hold ``size`` numbers; Triton's own function takes several microseconds."""
    return -(-size // block)


def time_block(time: int, largest: int) -> int:
    """Positions of a block for inputs of ``time`` positions: one of two sizes."""
    return SHORT if time <= SHORT else largest


def stages(time: int) -> int:
    """How many blocks of a loop are in work at a time: one where there is only one."""
    return 1 if time <= SHORT else 3


@triton.jit
def is_kept(
    seed: tl.tensor,
    dropout: tl.tensor,
    row: tl.tensor,
    time: tl.tensor,
    t: tl.tensor,
    k: tl.tensor,
    SIZE: tl.constexpr,
) -> Any:
    """Whether DropConnect keeps tap k of output position t of row b H + h.

    It follows from a seed and the tap's place, so that the backward pass draws what the forward
    pass drew, and no mask is stored.
    """
    # The counter may wrap around in 32 bits: then, two taps far apart share their draws. Seven
    # rounds of Philox 4x32 are the fewest that pass every test of BigCrush (Salmon et al., 2011).
    return tl.rand(seed, (row * time + t) * SIZE + k, 7) >= dropout


def draw_seed(dropout: float) -> int:
    """A seed from torch's generator of the CPU: reading a GPU's would wait for the GPU."""
    return int(torch.randint(2**31, (), device="cpu")) if dropout > 0 else 0


def drop_scale(dropout: float) -> float:
    """What the taps that DropConnect keeps are multiplied by."""
    return 1.0 / (1.0 - dropout) if dropout < 1.0 else 0.0
