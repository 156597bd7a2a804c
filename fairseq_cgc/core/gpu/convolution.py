"""Triton kernels of the lightweight convolution, its gradients, and DropConnect's draws.

``out[t, b, c] = sum_k kernel[b, h(c), k] * x[t + k - padding_l, b, c]``: for a block of output
positions, tensor cores multiply a small band matrix, built from the kernel as it is needed, by the
window of the input that the block sees. The input's gradient is the same product with the band
transposed. The gradient of tap k sums the products of the output's gradient at t with the input at
t + k - padding_l: diagonals of the product of two tiles.

Shape letters: B batch, T time, C channels, H heads, R = C / H channels per head, K kernel.
"""

# Parameters of Triton functions are Triton's: capitals are compile-time constants.
# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fairseq_cgc.core.gpu.tiles import convolution_tiles, count_blocks, tap_span, tap_tiles


@triton.jit
def _is_kept(seed, dropout, row, time, t, k, SIZE):
    """Whether DropConnect keeps tap k of output position t, for the head and sentence of a row.

    It depends only on a seed and the tap's place, so the backward pass repeats the draws of the
    forward pass and no mask is stored.
    """
    # The counter may wrap around in 32 bits; two taps far apart then share their draws. Seven
    # rounds of Philox 4x32 are the fewest that pass every test of BigCrush (Salmon et al., 2011).
    return tl.rand(seed, (row * time + t) * SIZE + k, 7) >= dropout


def draw_seed(dropout: float) -> int:
    """A seed from torch's CPU generator; reading a GPU's would wait for the GPU."""
    return int(torch.randint(2**31, (), device="cpu")) if dropout > 0 else 0


def drop_scale(dropout: float) -> float:
    """The factor of the taps that DropConnect keeps."""
    return 1.0 / (1.0 - dropout) if dropout < 1.0 else 0.0


@triton.jit(do_not_specialize=["time", "batch", "seed"])
def _convolve(
    out_ptr,  # T x B x C
    x_ptr,  # T x B x C with the strides below; the last is 1
    kernel_ptr,  # B or 1 x H x K
    mask_ptr,  # B x T, not 0 at padding
    share_ptr,  # B x H x T, added to every channel of the head
    time,
    batch,
    time_stride,
    batch_stride,
    seed,
    dropout,
    scale,
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
):
    """BLOCK_T positions and up to BLOCK_R channels of one head of one sentence.

    The mask applies to x; transposed, to the result, which is the gradient of x.
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
    # The positions of x that the block sees are low to high - 1.
    BEFORE: tl.constexpr = SIZE - 1 - LEFT if TRANSPOSED else LEFT
    low = tl.maximum(first - BEFORE, 0)
    high = tl.minimum(first + BLOCK_T - BEFORE + SIZE - 1, time)
    x_ptr += b.to(tl.int64) * batch_stride + h * WIDTH
    total = tl.zeros((BLOCK_T, BLOCK_R), tl.float32)
    for start in range(low, high, BLOCK_S):
        j = start + tl.arange(0, BLOCK_S)
        present = j < time
        if MASKED and not TRANSPOSED:
            # A NaN at padding would survive a multiplication by zero, so it is not loaded.
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
            band = tl.where(_is_kept(seed, dropout, row, time, t, k, SIZE), band, 0.0)
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
    """The convolution, or its transpose, which maps the output's gradient to the input's.

    Args:
        x: T x B x C, the last stride 1.
        kernel: B or 1 x H x K, contiguous.
        padding_l: input positions before the output's own that the kernel sees.
        padding_mask: B x T, contiguous, 8 bits; not 0 at padding, where the input counts as zero;
            transposed, where the result is zero.
        dropout: probability of DropConnect.
        seed: of DropConnect, below 2^31.
        transposed: whether to compute the transpose.
        share: B x H x T, contiguous; added to every channel of the head (transposed only).

    Returns:
        T x B x C, contiguous, in x's dtype.
    """
    time, batch, channels = x.shape
    kernels, heads, size = kernel.shape
    width = channels // heads
    tiles = convolution_tiles(time, width, x.element_size(), drops=dropout > 0)
    blocks = count_blocks(time, tiles["BLOCK_T"]) * count_blocks(width, tiles["BLOCK_R"])
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _convolve[(blocks * batch * heads,)](
        out,
        x,
        kernel,
        x if padding_mask is None else padding_mask,
        x if share is None else share,
        time,
        batch,
        *x.stride()[:2],
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
        **tiles,
    )
    return out


@triton.jit(do_not_specialize=["time", "batch", "splits", "span", "seed"])
def _multiply_taps(
    out_ptr,  # B x H x (splits rows) x K, rows = min(BLOCK_T, T)
    grad_ptr,  # T x B x C, the last stride is 1
    x_ptr,  # T x B x C, the last stride is 1
    mask_ptr,  # B x T, not 0 at padding
    time,
    batch,
    splits,
    span,
    grad_time_stride,
    grad_batch_stride,
    time_stride,
    batch_stride,
    seed,
    dropout,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
    LEFT: tl.constexpr,
    MASKED: tl.constexpr,
    DROPS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Gradients of the taps of one head of one sentence, over ``span`` output positions.

    Partial sums stay in BLOCK_T rows, which the caller sums: output position t goes to row
    t % BLOCK_T. Of an input shorter than a block, the rows beyond it, all zeros, are not written.
    BLOCK_S is at least BLOCK_T + K - 1, a block's whole window.
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
            kept = _is_kept(seed, dropout, row, time, t[:, None], k, SIZE)
            product = tl.where(kept, product, 0.0)
        total += product
    rows = tl.minimum(time, BLOCK_T)
    places = out_ptr + (program.to(tl.int64) * rows + i)[:, None] * SIZE
    tl.store(places + k, total, mask=is_tap & (i < rows)[:, None])


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
    """Gradients of every sentence's kernel, in rows that remain to be summed and scaled.

    Args:
        grad: T x B x C, of the output; the last stride 1.
        x: the input; this and the rest as for :func:`convolve`.

    Returns:
        B x H x rows x K, float32; the kernel's gradient is its sum over the rows, times
        :func:`drop_scale`.
    """
    time, batch, channels = x.shape
    width = channels // heads
    tiles = tap_tiles(time, width, size, x.element_size())
    block_t = tiles["BLOCK_T"]
    span = tap_span(time, batch * heads, block_t)
    splits = count_blocks(time, span)
    rows = splits * min(block_t, time)
    out = torch.empty(batch, heads, rows, size, dtype=torch.float32, device=x.device)
    _multiply_taps[(batch * heads * splits,)](
        out,
        grad,
        x,
        x if padding_mask is None else padding_mask,
        time,
        batch,
        splits,
        span,
        *grad.stride()[:2],
        *x.stride()[:2],
        seed,
        dropout,
        HEADS=heads,
        WIDTH=width,
        SIZE=size,
        LEFT=padding_l,
        MASKED=padding_mask is not None,
        DROPS=dropout > 0,
        **tiles,
    )
    return out
