"""Triton kernel of the gradient of the lightweight convolution's kernel.

Tap k of a sentence gathers the products of the output's gradient at t with the input at
t + k - padding_l: diagonals of a product of two tiles, which tensor cores make for a block of
positions after another.

Shape letters: B batch, T time, C channels, H heads, R = C / H channels per head, K kernel.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fairseq_cgc.core.gpu.common import count_blocks, is_kept, power_of_two, stages, time_block


@triton.jit(do_not_specialize=["time", "batch", "splits", "span", "seed"])
def _multiply_taps(
    out_ptr: tl.tensor,  # B x H x (splits BLOCK_T) x K
    grad_ptr: tl.tensor,  # T x B x C, the last stride is 1
    x_ptr: tl.tensor,  # T x B x C, the last stride is 1
    mask_ptr: tl.tensor,  # B x T, not 0 at padding
    time: tl.tensor,
    batch: tl.tensor,
    splits: tl.tensor,
    span: tl.tensor,
    grad_time_stride: tl.tensor,
    grad_batch_stride: tl.tensor,
    time_stride: tl.tensor,
    batch_stride: tl.tensor,
    seed: tl.tensor,
    dropout: tl.tensor,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
    LEFT: tl.constexpr,
    MASKED: tl.constexpr,
    DROPS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_R: tl.constexpr,
) -> None:
    """Gradients of the taps of one head of one sentence, over ``span`` output positions.

    They are left in BLOCK_T rows, for who reads them to sum: output position t goes to row
    t % BLOCK_T. BLOCK_S is at least BLOCK_T + K - 1, a block's whole window.
    """
    program = tl.program_id(0)
    row = program // splits
    split = program % splits
    b = row // HEADS
    h = row % HEADS
    first = split * span
    last = tl.minimum(first + span, time)
    i = tl.arange(0, BLOCK_T)
    j = tl.arange(0, BLOCK_S)
    k = j[None, :] - i[:, None]
    is_tap = (k >= 0) & (k < SIZE)
    grad_ptr += b.to(tl.int64) * grad_batch_stride + h * WIDTH
    x_ptr += b.to(tl.int64) * batch_stride + h * WIDTH
    total = tl.zeros((BLOCK_T, BLOCK_S), tl.float32)
    for start in range(first, last, BLOCK_T):
        t = start + i
        s = start - LEFT + j
        present = (s >= 0) & (s < time) & (j < BLOCK_T + SIZE - 1)
        if MASKED:
            present = present & (tl.load(mask_ptr + b * time + s, mask=present, other=1) == 0)
        product = tl.zeros((BLOCK_T, BLOCK_S), tl.float32)
        for r_start in range(0, WIDTH, BLOCK_R):
            r = r_start + tl.arange(0, BLOCK_R)
            in_head = (r < WIDTH)[None, :]
            grad = tl.load(
                grad_ptr + t.to(tl.int64)[:, None] * grad_time_stride + r[None, :],
                mask=(t < time)[:, None] & in_head,
                other=0.0,
            )
            x = tl.load(
                x_ptr + s.to(tl.int64)[:, None] * time_stride + r[None, :],
                mask=present[:, None] & in_head,
                other=0.0,
            )
            product = tl.dot(grad, tl.trans(x), product, input_precision="ieee")
        if DROPS:
            kept = is_kept(seed, dropout, row, time, t[:, None], k, SIZE)
            product = tl.where(kept, product, 0.0)
        total += product
    rows = out_ptr + (program.to(tl.int64) * BLOCK_T + i)[:, None] * SIZE
    tl.store(rows + k, total, mask=is_tap)


def multiply_taps(
    grad: Tensor,
    x: Tensor,
    heads: int,
    size: int,
    padding_l: int,
    *,
    padding_mask: Tensor | None = None,
    dropout: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """Gradients of every sentence's kernel, in rows that remain to be summed (and scaled).

    Args:
        grad: T x B x C, of the output; the last stride 1.
        x: the input; this and the rest as for :func:`convolve`.
        heads: H.
        size: K.

    Returns:
        B x H x rows x K, float32; the kernel's gradient is its sum over the rows, times
        :func:`drop_scale`.
    """
    time, batch, channels = x.shape
    block_t = time_block(time, 32)
    # Long inputs are shared out until there are programs enough for a large GPU, so long as each
    # has a few blocks to add up.
    splits = max(1, min(1024 // (batch * heads), count_blocks(time, 4 * block_t)))
    span = count_blocks(count_blocks(time, splits), block_t) * block_t
    splits = count_blocks(time, span)
    width = channels // heads
    out = torch.empty(batch, heads, splits * block_t, size, dtype=torch.float32, device=x.device)
    _multiply_taps[(batch * heads * splits,)](
        out,
        grad,
        x,
        x if padding_mask is None else padding_mask,
        time,
        batch,
        splits,
        span,
        grad.stride(0),
        grad.stride(1),
        x.stride(0),
        x.stride(1),
        seed,
        dropout,
        HEADS=heads,
        WIDTH=width,
        SIZE=size,
        LEFT=padding_l,
        MASKED=padding_mask is not None,
        DROPS=dropout > 0,
        BLOCK_T=block_t,
        BLOCK_S=power_of_two(block_t + size - 1),
        BLOCK_R=min(power_of_two(width), 128 if x.element_size() == 2 else 32),
        num_warps=4,
        num_stages=stages(time),
    )
    return out
