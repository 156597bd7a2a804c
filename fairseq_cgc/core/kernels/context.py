"""Triton kernels of the context gate: from the input of a sentence to its modulated kernels.

One program per head and sentence averages the head's channels, pools the sentence to P = 3K
positions, encodes, normalises and decodes them, and modulates the head's kernel, all in float32.
The backward pass keeps only the pooled positions and computes the rest again.

Shape letters: B batch, T time, C channels, H heads, R = C / H channels per head, K kernel,
P pooled positions, d latent size.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from fairseq_cgc.core.kernels.bins import count_valid, divide_into_bins, rank_positions


@triton.jit
def _load_vector(ptr: tl.tensor, SIZE: tl.constexpr, BLOCK: tl.constexpr) -> Any:
    """SIZE numbers in float32; zeros follow."""
    i = tl.arange(0, BLOCK)
    return tl.load(ptr + i, mask=i < SIZE, other=0.0).to(tl.float32)


@triton.jit
def _load_matrix(
    ptr: tl.tensor,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
) -> Any:
    """A contiguous matrix in float32; zeros surround it."""
    m, n = tl.arange(0, BLOCK_M)[:, None], tl.arange(0, BLOCK_N)[None, :]
    inside = (m < ROWS) & (n < COLUMNS)
    return tl.load(ptr + m * COLUMNS + n, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _store_vector(
    ptr: tl.tensor, values: tl.tensor, SIZE: tl.constexpr, BLOCK: tl.constexpr
) -> None:
    i = tl.arange(0, BLOCK)
    tl.store(ptr + i, values, mask=i < SIZE)


@triton.jit
def _encode(
    pooled: tl.tensor,
    encoder_ptr: tl.tensor,
    norm_weight_ptr: tl.tensor,
    norm_bias_ptr: tl.tensor,
    epsilon: tl.tensor,
    POOLED: tl.constexpr,
    LATENT: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> Any:
    """Encode, normalise, ReLU; also what was normalised, and 1 / its deviation."""
    encoder = _load_matrix(encoder_ptr, LATENT, POOLED, BLOCK_D, BLOCK_P)
    latent = tl.sum(encoder * pooled[None, :], 1)
    is_latent = tl.arange(0, BLOCK_D) < LATENT
    centred = tl.where(is_latent, latent - tl.sum(latent, 0) / LATENT, 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / LATENT + epsilon)
    normed = centred * rstd
    scale = _load_vector(norm_weight_ptr, LATENT, BLOCK_D)
    shift = _load_vector(norm_bias_ptr, LATENT, BLOCK_D)
    return tl.maximum(normed * scale + shift, 0.0), normed, rstd


@triton.jit
def _decode(
    active: tl.tensor,
    decoder_ptr: tl.tensor,
    LATENT: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> Any:
    """The gate, K numbers in (0, 1)."""
    decoder = _load_matrix(decoder_ptr, SIZE, LATENT, BLOCK_K, BLOCK_D)
    return 1.0 / (1.0 + tl.exp(-tl.sum(decoder * active[None, :], 1)))


@triton.jit
def _normalise(
    logits: tl.tensor, SIZE: tl.constexpr, SOFTMAX: tl.constexpr, BLOCK_K: tl.constexpr
) -> Any:
    """The softmax over K numbers, or the numbers themselves."""
    if SOFTMAX:
        is_tap = tl.arange(0, BLOCK_K) < SIZE
        logits = tl.where(is_tap, logits, float("-inf"))
        powers = tl.exp(logits - tl.max(logits, 0))
        logits = powers / tl.sum(powers, 0)
    return logits


@triton.jit(do_not_specialize=["time", "batch"])
def modulate(
    kernel_ptr: tl.tensor,  # B x H x K
    pooled_ptr: tl.tensor,  # B x H x P
    x_ptr: tl.tensor,  # T x B x C with the strides below; the last is 1
    mask_ptr: tl.tensor,  # B x T, not 0 at padding
    weight_ptr: tl.tensor,  # H x K
    encoder_ptr: tl.tensor,  # d x P
    norm_weight_ptr: tl.tensor,  # d
    norm_bias_ptr: tl.tensor,  # d
    decoder_ptr: tl.tensor,  # K x d
    time: tl.tensor,
    time_stride: tl.tensor,
    batch_stride: tl.tensor,
    epsilon: tl.tensor,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
    POOLED: tl.constexpr,
    LATENT: tl.constexpr,
    SOFTMAX: tl.constexpr,
    GATES_LOGITS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> None:
    """The kernel of one head of one sentence."""
    row = tl.program_id(0)
    b, h = row // HEADS, row % HEADS
    mask_ptr += b * time
    x_ptr += b.to(tl.int64) * batch_stride + h * WIDTH
    length = count_valid(mask_ptr, time)
    starts, ends = divide_into_bins(length, POOLED, BLOCK_P)
    pooled = tl.zeros((BLOCK_P,), tl.float32)
    seen = 0
    for start in range(0, time, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        valid, ranks, seen = rank_positions(mask_ptr, t, time, seen)
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
    pooled = pooled / (ends - starts).to(tl.float32)
    _store_vector(pooled_ptr + row * POOLED, pooled, POOLED, BLOCK_P)
    active, _, _ = _encode(
        pooled,
        encoder_ptr,
        norm_weight_ptr,
        norm_bias_ptr,
        epsilon,
        POOLED,
        LATENT,
        BLOCK_P,
        BLOCK_D,
    )
    gate = _decode(active, decoder_ptr, LATENT, SIZE, BLOCK_D, BLOCK_K)
    weight = _load_vector(weight_ptr + h * SIZE, SIZE, BLOCK_K)
    if GATES_LOGITS:
        kernel = _normalise(weight * gate, SIZE, SOFTMAX, BLOCK_K)
    else:
        kernel = _normalise(weight, SIZE, SOFTMAX, BLOCK_K) * gate
    _store_vector(kernel_ptr + row * SIZE, kernel, SIZE, BLOCK_K)


@triton.jit
def _unnormalise(values: tl.tensor, grad: tl.tensor, SOFTMAX: tl.constexpr) -> Any:
    """From the gradient of what :func:`_normalise` returned, ``values``, to its argument's."""
    if SOFTMAX:
        grad = values * (grad - tl.sum(values * grad, 0))
    return grad


@triton.jit(do_not_specialize=["time", "rows"])
def modulate_backward(
    numbers_ptr: tl.tensor,  # B H x (2K + 4d): gradients and numbers that the parameters' come from
    share_ptr: tl.tensor,  # B x H x T: gradient of every channel of a head through the gate
    tap_ptr: tl.tensor,  # B x H x rows x K, summed over rows and scaled: the kernel's gradient
    pooled_ptr: tl.tensor,  # B x H x P
    mask_ptr: tl.tensor,
    weight_ptr: tl.tensor,
    encoder_ptr: tl.tensor,
    norm_weight_ptr: tl.tensor,
    norm_bias_ptr: tl.tensor,
    decoder_ptr: tl.tensor,
    time: tl.tensor,
    rows: tl.tensor,
    scale: tl.tensor,
    epsilon: tl.tensor,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
    POOLED: tl.constexpr,
    LATENT: tl.constexpr,
    SOFTMAX: tl.constexpr,
    GATES_LOGITS: tl.constexpr,
    WANTS_SHARE: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> None:
    """The gradients of one head of one sentence.

    A row of ``numbers`` holds the gradients of the weight (K) and of the gate's logits (K), the
    decoder's input (d), and the gradients of the encoder's output, the norm's scale and shift (d
    each).
    """
    row = tl.program_id(0)
    b, h = row // HEADS, row % HEADS
    k = tl.arange(0, BLOCK_K)
    is_tap = k < SIZE
    grad = tl.zeros((BLOCK_K,), tl.float32)
    tap_ptr += row.to(tl.int64) * rows * SIZE
    for start in range(0, rows, 16):
        i = start + tl.arange(0, 16)
        inside = (i < rows)[:, None] & is_tap[None, :]
        grad += tl.sum(tl.load(tap_ptr + i[:, None] * SIZE + k[None, :], mask=inside, other=0.0), 0)
    grad = grad * scale

    pooled = _load_vector(pooled_ptr + row * POOLED, POOLED, BLOCK_P)
    active, normed, rstd = _encode(
        pooled,
        encoder_ptr,
        norm_weight_ptr,
        norm_bias_ptr,
        epsilon,
        POOLED,
        LATENT,
        BLOCK_P,
        BLOCK_D,
    )
    gate = _decode(active, decoder_ptr, LATENT, SIZE, BLOCK_D, BLOCK_K)
    weight = _load_vector(weight_ptr + h * SIZE, SIZE, BLOCK_K)
    if GATES_LOGITS:
        kernel = _normalise(weight * gate, SIZE, SOFTMAX, BLOCK_K)
        grad = _unnormalise(kernel, grad, SOFTMAX)
        grad_weight, grad_gate = grad * gate, grad * weight
    else:
        kernel = _normalise(weight, SIZE, SOFTMAX, BLOCK_K)
        grad_weight, grad_gate = _unnormalise(kernel, grad * gate, SOFTMAX), grad * kernel
    grad_logits = grad_gate * gate * (1.0 - gate)

    decoder = _load_matrix(decoder_ptr, SIZE, LATENT, BLOCK_K, BLOCK_D)
    grad_shift = tl.where(active > 0.0, tl.sum(decoder * grad_logits[:, None], 0), 0.0)
    grad_scale = grad_shift * normed
    grad_normed = grad_shift * _load_vector(norm_weight_ptr, LATENT, BLOCK_D)
    average = tl.sum(grad_normed, 0) / LATENT
    along = tl.sum(grad_normed * normed, 0) / LATENT
    grad_latent = (grad_normed - average - normed * along) * rstd
    is_latent = tl.arange(0, BLOCK_D) < LATENT
    grad_latent = tl.where(is_latent, grad_latent, 0.0)

    numbers_ptr += row.to(tl.int64) * (2 * SIZE + 4 * LATENT)
    _store_vector(numbers_ptr, grad_weight, SIZE, BLOCK_K)
    _store_vector(numbers_ptr + SIZE, grad_logits, SIZE, BLOCK_K)
    numbers_ptr += 2 * SIZE
    _store_vector(numbers_ptr, active, LATENT, BLOCK_D)
    _store_vector(numbers_ptr + LATENT, grad_latent, LATENT, BLOCK_D)
    _store_vector(numbers_ptr + 2 * LATENT, grad_scale, LATENT, BLOCK_D)
    _store_vector(numbers_ptr + 3 * LATENT, grad_shift, LATENT, BLOCK_D)

    if WANTS_SHARE:
        encoder = _load_matrix(encoder_ptr, LATENT, POOLED, BLOCK_D, BLOCK_P)
        mask_ptr += b * time
        length = count_valid(mask_ptr, time)
        starts, ends = divide_into_bins(length, POOLED, BLOCK_P)
        grad_pooled = tl.sum(encoder * grad_latent[:, None], 0)
        grad_pooled = grad_pooled / ((ends - starts).to(tl.float32) * WIDTH)
        share_ptr += row.to(tl.int64) * time
        seen = 0
        for start in range(0, time, BLOCK_T):
            t = start + tl.arange(0, BLOCK_T)
            valid, ranks, seen = rank_positions(mask_ptr, t, time, seen)
            inside = (ranks[None, :] >= starts[:, None]) & (ranks[None, :] < ends[:, None])
            share = tl.sum(tl.where(inside, grad_pooled[:, None], 0.0), 0)
            tl.store(share_ptr + t, share, mask=t < time)
