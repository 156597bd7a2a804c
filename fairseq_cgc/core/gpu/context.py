"""Triton kernels of the context gate: from the input of a sentence to its modulated kernels.

One program per head and sentence averages the head's channels, pools the sentence to P = 3K
positions, encodes, normalises and decodes them, and modulates the head's kernel, all in float32.
The backward pass keeps only the pooled positions and computes the rest again.

Where one LayerNorm spans all heads of a sentence (NORMS_HEADS) its moments are needed first:
``encode`` runs before ``modulate``, and ``encode_backward`` after ``modulate_backward``.

Shape letters: B batch, T time, C channels, H heads, R = C / H channels per head, K kernel,
P pooled positions, d latent size.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from fairseq_cgc.core.gpu.common import pool_head, share_out


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
    POOLED: tl.constexpr,
    LATENT: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> Any:
    """d numbers; zeros follow."""
    encoder = _load_matrix(encoder_ptr, LATENT, POOLED, BLOCK_D, BLOCK_P)
    return tl.sum(encoder * pooled[None, :], 1)


@triton.jit
def _standardise(
    latent: tl.tensor,
    moments_ptr: tl.tensor,
    epsilon: tl.tensor,
    LATENT: tl.constexpr,
    NORMS_HEADS: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> Any:
    """Subtract the mean and divide by the deviation; also 1 / the deviation."""
    is_latent = tl.arange(0, BLOCK_D) < LATENT
    if NORMS_HEADS:
        centred = tl.where(is_latent, latent - tl.load(moments_ptr), 0.0)
        rstd = tl.load(moments_ptr + 1)
    else:
        centred = tl.where(is_latent, latent - tl.sum(latent, 0) / LATENT, 0.0)
        rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / LATENT + epsilon)
    return centred * rstd, rstd


@triton.jit
def _activate(
    normed: tl.tensor,
    norm_weight_ptr: tl.tensor,
    norm_bias_ptr: tl.tensor,
    LATENT: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> Any:
    """Scale, shift, ReLU."""
    scale = _load_vector(norm_weight_ptr, LATENT, BLOCK_D)
    shift = _load_vector(norm_bias_ptr, LATENT, BLOCK_D)
    return tl.maximum(normed * scale + shift, 0.0)


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


@triton.jit(do_not_specialize=["time", "time_stride", "batch_stride"])
def encode(
    latent_ptr: tl.tensor,  # B x H x d
    pooled_ptr: tl.tensor,  # B x H x P
    x_ptr: tl.tensor,
    mask_ptr: tl.tensor,
    encoder_ptr: tl.tensor,
    time: tl.tensor,
    time_stride: tl.tensor,
    batch_stride: tl.tensor,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    POOLED: tl.constexpr,
    LATENT: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """Pool and encode one head of one sentence; arguments as for :func:`modulate`."""
    row = tl.program_id(0)
    b, h = row // HEADS, row % HEADS
    x_ptr += b.to(tl.int64) * batch_stride + h * WIDTH
    pooled = pool_head(
        x_ptr, mask_ptr + b * time, time, time_stride, WIDTH, POOLED, BLOCK_T, BLOCK_R, BLOCK_P
    )
    _store_vector(pooled_ptr + row * POOLED, pooled, POOLED, BLOCK_P)
    latent = _encode(pooled, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D)
    _store_vector(latent_ptr + row * LATENT, latent, LATENT, BLOCK_D)


@triton.jit(do_not_specialize=["time", "batch"])
def modulate(
    kernel_ptr: tl.tensor,  # B x H x K
    pooled_ptr: tl.tensor,  # B x H x P, written unless NORMS_HEADS, which reads it
    x_ptr: tl.tensor,  # T x B x C with the strides below; the last is 1
    mask_ptr: tl.tensor,  # B x T, not 0 at padding
    moments_ptr: tl.tensor,  # B x 2, for NORMS_HEADS: mean and 1 / deviation over H x d
    weight_ptr: tl.tensor,  # H x K
    encoder_ptr: tl.tensor,  # d x P
    norm_weight_ptr: tl.tensor,  # d, or H x d for NORMS_HEADS
    norm_bias_ptr: tl.tensor,  # likewise
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
    NORMS_HEADS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> None:
    """The kernel of one head of one sentence."""
    row = tl.program_id(0)
    b, h = row // HEADS, row % HEADS
    if NORMS_HEADS:
        pooled = _load_vector(pooled_ptr + row * POOLED, POOLED, BLOCK_P)
        norm_weight_ptr += h * LATENT
        norm_bias_ptr += h * LATENT
    else:
        x_ptr += b.to(tl.int64) * batch_stride + h * WIDTH
        pooled = pool_head(
            x_ptr, mask_ptr + b * time, time, time_stride, WIDTH, POOLED, BLOCK_T, BLOCK_R, BLOCK_P
        )
        _store_vector(pooled_ptr + row * POOLED, pooled, POOLED, BLOCK_P)
    latent = _encode(pooled, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D)
    normed, _ = _standardise(latent, moments_ptr + 2 * b, epsilon, LATENT, NORMS_HEADS, BLOCK_D)
    active = _activate(normed, norm_weight_ptr, norm_bias_ptr, LATENT, BLOCK_D)
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


@triton.jit
def _encode_backward(
    grad_latent_ptr: tl.tensor,  # d, written
    share_ptr: tl.tensor,
    grad_normed: tl.tensor,
    normed: tl.tensor,
    rstd: tl.tensor,
    average: tl.tensor,  # of the gradient, over what the norm spans
    along: tl.tensor,  # average of the gradient times what was normalised
    encoder_ptr: tl.tensor,
    mask_ptr: tl.tensor,
    time: tl.tensor,
    WIDTH: tl.constexpr,
    POOLED: tl.constexpr,
    LATENT: tl.constexpr,
    WANTS_SHARE: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """From the gradient of what :func:`_standardise` returned to those of its input and of x."""
    is_latent = tl.arange(0, BLOCK_D) < LATENT
    grad_latent = tl.where(is_latent, (grad_normed - average - normed * along) * rstd, 0.0)
    _store_vector(grad_latent_ptr, grad_latent, LATENT, BLOCK_D)
    if WANTS_SHARE:
        encoder = _load_matrix(encoder_ptr, LATENT, POOLED, BLOCK_D, BLOCK_P)
        grad_pooled = tl.sum(encoder * grad_latent[:, None], 0)
        share_out(share_ptr, grad_pooled, mask_ptr, time, WIDTH, POOLED, BLOCK_T, BLOCK_P)


@triton.jit(do_not_specialize=["time", "rows"])
def modulate_backward(
    numbers_ptr: tl.tensor,  # B H x (2K + 4d): gradients and numbers that the parameters' come from
    share_ptr: tl.tensor,  # B x H x T: gradient of every channel of a head through the gate
    tap_ptr: tl.tensor,  # B x H x rows x K, summed over rows and scaled: the kernel's gradient
    pooled_ptr: tl.tensor,  # B x H x P
    mask_ptr: tl.tensor,
    moments_ptr: tl.tensor,
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
    NORMS_HEADS: tl.constexpr,
    WANTS_SHARE: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> None:
    """The gradients of one head of one sentence.

    A row of ``numbers`` holds the gradients of the weight (K) and of the gate's logits (K), the
    decoder's input (d), and the gradients of the encoder's output, the norm's scale and shift (d
    each). For NORMS_HEADS :func:`encode_backward` writes the encoder's output's, and ``share``.
    """
    row = tl.program_id(0)
    b, h = row // HEADS, row % HEADS
    if NORMS_HEADS:
        norm_weight_ptr += h * LATENT
        norm_bias_ptr += h * LATENT
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
    latent = _encode(pooled, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D)
    normed, rstd = _standardise(latent, moments_ptr + 2 * b, epsilon, LATENT, NORMS_HEADS, BLOCK_D)
    active = _activate(normed, norm_weight_ptr, norm_bias_ptr, LATENT, BLOCK_D)
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

    numbers_ptr += row.to(tl.int64) * (2 * SIZE + 4 * LATENT)
    _store_vector(numbers_ptr, grad_weight, SIZE, BLOCK_K)
    _store_vector(numbers_ptr + SIZE, grad_logits, SIZE, BLOCK_K)
    numbers_ptr += 2 * SIZE
    _store_vector(numbers_ptr, active, LATENT, BLOCK_D)
    _store_vector(numbers_ptr + 2 * LATENT, grad_scale, LATENT, BLOCK_D)
    _store_vector(numbers_ptr + 3 * LATENT, grad_shift, LATENT, BLOCK_D)

    if not NORMS_HEADS:
        grad_normed = grad_shift * _load_vector(norm_weight_ptr, LATENT, BLOCK_D)
        _encode_backward(
            numbers_ptr + LATENT,
            share_ptr + row.to(tl.int64) * time,
            grad_normed,
            normed,
            rstd,
            tl.sum(grad_normed, 0) / LATENT,
            tl.sum(grad_normed * normed, 0) / LATENT,
            encoder_ptr,
            mask_ptr + b * time,
            time,
            WIDTH,
            POOLED,
            LATENT,
            WANTS_SHARE,
            BLOCK_T,
            BLOCK_P,
            BLOCK_D,
        )


@triton.jit(do_not_specialize=["time"])
def encode_backward(
    numbers_ptr: tl.tensor,
    share_ptr: tl.tensor,
    grad_moments_ptr: tl.tensor,  # B x 2: averages of the gradient times the normalised, and of it
    pooled_ptr: tl.tensor,
    mask_ptr: tl.tensor,
    moments_ptr: tl.tensor,
    encoder_ptr: tl.tensor,
    norm_weight_ptr: tl.tensor,
    time: tl.tensor,
    epsilon: tl.tensor,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
    POOLED: tl.constexpr,
    LATENT: tl.constexpr,
    WANTS_SHARE: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """What :func:`modulate_backward` leaves open; its arguments, and all heads' averages."""
    row = tl.program_id(0)
    b, h = row // HEADS, row % HEADS
    numbers_ptr += row.to(tl.int64) * (2 * SIZE + 4 * LATENT) + 2 * SIZE
    pooled = _load_vector(pooled_ptr + row * POOLED, POOLED, BLOCK_P)
    latent = _encode(pooled, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D)
    normed, rstd = _standardise(latent, moments_ptr + 2 * b, epsilon, LATENT, True, BLOCK_D)
    grad_shift = _load_vector(numbers_ptr + 3 * LATENT, LATENT, BLOCK_D)
    _encode_backward(
        numbers_ptr + LATENT,
        share_ptr + row.to(tl.int64) * time,
        grad_shift * _load_vector(norm_weight_ptr + h * LATENT, LATENT, BLOCK_D),
        normed,
        rstd,
        tl.load(grad_moments_ptr + 2 * b + 1),
        tl.load(grad_moments_ptr + 2 * b),
        encoder_ptr,
        mask_ptr + b * time,
        time,
        WIDTH,
        POOLED,
        LATENT,
        WANTS_SHARE,
        BLOCK_T,
        BLOCK_P,
        BLOCK_D,
    )
