"""Triton kernel of the lightweight convolution: a band matrix times a tile of the input.

``out[t, b, c] = sum_k kernel[b, h(c), k] * x[t + k - padding_l, b, c]``: for a block of output
positions that is a small band matrix, made of the kernel as it is needed, times the block's window
of the input, which tensor cores do. The input's gradient is the same product with the band
transposed.

Shape letters: B batch, T time, C channels, H heads, R = C / H channels per head, K kernel.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fairseq_cgc.core.gpu.common import (
    count_blocks,
    drop_scale,
    is_kept,
    power_of_two,
    stages,
    time_block,
)


@triton.jit(do_not_specialize=["time", "batch", "seed"])
def _convolve(
    out_ptr: tl.tensor,  # T x B x C
    x_ptr: tl.tensor,  # T x B x C with the strides below; the last is 1
    kernel_ptr: tl.tensor,  # B or 1 x H x K
    mask_ptr: tl.tensor,  # B x T, not 0 at padding
    share_ptr: tl.tensor,  # B x H x T, added to every channel of the head
    time: tl.tensor,
    batch: tl.tensor,
    time_stride: tl.tensor,
    batch_stride: tl.tensor,
    seed: tl.tensor,
    dropout: tl.tensor,
    scale: tl.tensor,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
    LEFT: tl.constexpr,
    OWN_KERNELS: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    MASKED: tl.constexpr,
    HAS_SHARE: tl.constexpr,
    DROPS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_R: tl.constexpr,
) -> None:
    """BLOCK_T positions and up to BLOCK_R channels of one head of one sentence.

    The mask is the input's: of x, or, transposed, of the gradient that is the result.
    """
    R_BLOCKS: tl.constexpr = (WIDTH + BLOCK_R - 1) // BLOCK_R
    program = tl.program_id(0)
    r = (program % R_BLOCKS) * BLOCK_R + tl.arange(0, BLOCK_R)
    program = program // R_BLOCKS
    h = program % HEADS
    b = program // HEADS % batch
    first = program // HEADS // batch * BLOCK_T
    row = b * HEADS + h
    kernel_ptr += (row if OWN_KERNELS else h) * SIZE
    in_head = r < WIDTH
    i = first + tl.arange(0, BLOCK_T)
    # Positions of x that the block sees.
    BEFORE: tl.constexpr = SIZE - 1 - LEFT if TRANSPOSED else LEFT
    low = tl.maximum(first - BEFORE, 0)
    high = tl.minimum(first + BLOCK_T - BEFORE + SIZE - 1, time)
    x_ptr += b.to(tl.int64) * batch_stride + h * WIDTH
    total = tl.zeros((BLOCK_T, BLOCK_R), tl.float32)
    for start in range(low, high, BLOCK_S):
        j = start + tl.arange(0, BLOCK_S)
        present = j < time
        if MASKED and not TRANSPOSED:
            # A NaN at padding would survive a multiplication by zero: it is not loaded.
            present = present & (tl.load(mask_ptr + b * time + j, mask=present, other=1) == 0)
        x = tl.load(
            x_ptr + j.to(tl.int64)[:, None] * time_stride + r[None, :],
            mask=present[:, None] & in_head[None, :],
            other=0.0,
        )
        t, k = i[:, None], j[None, :] - i[:, None] + LEFT
        if TRANSPOSED:
            t, k = j[None, :], i[:, None] - j[None, :] + LEFT
        is_tap = (k >= 0) & (k < SIZE)
        band = tl.load(kernel_ptr + k, mask=is_tap, other=0.0)
        if DROPS:
            band = tl.where(is_kept(seed, dropout, row, time, t, k, SIZE), band, 0.0)
        total = tl.dot(band.to(x.dtype), x, total, input_precision="ieee")
    if DROPS:
        total = total * scale
    inside = i < time
    if HAS_SHARE:
        total += tl.load(share_ptr + row.to(tl.int64) * time + i, mask=inside, other=0.0)[:, None]
    if MASKED and TRANSPOSED:
        padded = tl.load(mask_ptr + b * time + i, mask=inside, other=1) != 0
        total = tl.where(padded[:, None], 0.0, total)
    out = out_ptr + (i.to(tl.int64)[:, None] * batch + b) * (HEADS * WIDTH) + h * WIDTH + r[None, :]
    tl.store(out, total.to(out_ptr.dtype.element_ty), mask=inside[:, None] & in_head[None, :])


def convolve(
    x: Tensor,
    kernel: Tensor,
    padding_l: int,
    *,
    padding_mask: Tensor | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    transposed: bool = False,
    share: Tensor | None = None,
) -> Tensor:
    """The convolution, or its transpose, which takes an output's gradient to the input's.

    Args:
        x: T x B x C, the last stride 1.
        kernel: B or 1 x H x K, contiguous.
        padding_l: input positions before the output's own that the kernel sees.
        padding_mask: B x T, contiguous, 8 bits; not 0 at padding, where the input counts as zero;
            transposed, where the result is zero.
        dropout: probability of DropConnect.
        seed: of DropConnect, below 2^31.
        transposed: take the transpose.
        share: B x H x T, contiguous; added to every channel of the head (transposed only).

    Returns:
        T x B x C, contiguous, in x's dtype.
    """
    time, batch, channels = x.shape
    kernels, heads, size = kernel.shape
    width = channels // heads
    # Large blocks read fewer positions twice, small ones draw fewer numbers that are no tap's.
    block_t = time_block(time, 64 if x.element_size() == 2 and dropout == 0 else 32)
    block_r = min(power_of_two(width), 128 if x.element_size() == 2 else 64)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    grid = (count_blocks(time, block_t) * batch * heads * count_blocks(width, block_r),)
    _convolve[grid](
        out,
        x,
        kernel,
        x if padding_mask is None else padding_mask,
        x if share is None else share,
        time,
        batch,
        x.stride(0),
        x.stride(1),
        seed,
        dropout,
        drop_scale(dropout),
        HEADS=heads,
        WIDTH=width,
        SIZE=size,
        LEFT=padding_l,
        OWN_KERNELS=kernels > 1,
        TRANSPOSED=transposed,
        MASKED=padding_mask is not None,
        HAS_SHARE=share is not None,
        DROPS=dropout > 0,
        BLOCK_T=block_t,
        BLOCK_S=min(block_t, 32),
        BLOCK_R=block_r,
        num_warps=4,
        num_stages=stages(time),
    )
    return out
