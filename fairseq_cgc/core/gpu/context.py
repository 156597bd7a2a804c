"""Triton kernels of the context gate: from the input of a sentence to its modulated kernels.

One program per head and sentence averages the head's channels, pools the sentence to P = 3K
positions, encodes, normalises and decodes them, and modulates the head's kernel, all in float32.
The backward pass recomputes everything but the pooled positions, which are kept.

Where one LayerNorm spans all heads of a sentence (NORMS_HEADS), its moments are needed first: so
``encode`` runs before ``modulate``, and ``encode_backward`` after ``modulate_backward``.

Shape letters: B batch, T time, C channels, H heads, R = C / H channels per head, K kernel,
P pooled positions, d latent size. A row is one head of one sentence, b H + h.
"""

# Parameters of Triton functions are Triton's: capitals are compile-time constants.
# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import triton
import triton.language as tl

from fairseq_cgc.core.gpu.pooling import pool_head, share_out
from fairseq_cgc.core.gpu.tiles import SUMMED_AT_ONCE


@triton.jit
def _load_vector(ptr, SIZE, BLOCK):
    """SIZE numbers in float32, followed by zeros."""
    i = tl.arange(0, BLOCK)
    return tl.load(ptr + i, mask=i < SIZE, other=0.0).to(tl.float32)


@triton.jit
def _load_matrix(ptr, ROWS, COLUMNS, BLOCK_M, BLOCK_N):
    """A contiguous matrix in float32, padded with zeros."""
    m, n = tl.arange(0, BLOCK_M)[:, None], tl.arange(0, BLOCK_N)[None, :]
    inside = (m < ROWS) & (n < COLUMNS)
    return tl.load(ptr + m * COLUMNS + n, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _store_vector(ptr, values, SIZE, BLOCK):
    i = tl.arange(0, BLOCK)
    tl.store(ptr + i, values, mask=i < SIZE)


@triton.jit
def _encode(pooled, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D):
    """d numbers, followed by zeros."""
    encoder = _load_matrix(encoder_ptr, LATENT, POOLED, BLOCK_D, BLOCK_P)
    return tl.sum(encoder * pooled[None, :], 1)


@triton.jit
def _encode_backward(grad, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D):
    """From the gradient of what :func:`_encode` returned to that of the pooled positions."""
    encoder = _load_matrix(encoder_ptr, LATENT, POOLED, BLOCK_D, BLOCK_P)
    return tl.sum(encoder * grad[:, None], 0)


@triton.jit
def _standardise(latent, moments_ptr, epsilon, LATENT, NORMS_HEADS, BLOCK_D):
    """Subtract the mean and divide by the deviation; also returns 1 / deviation."""
    is_latent = tl.arange(0, BLOCK_D) < LATENT
    if NORMS_HEADS:
        centred = tl.where(is_latent, latent - tl.load(moments_ptr), 0.0)
        rstd = tl.load(moments_ptr + 1)
    else:
        centred = tl.where(is_latent, latent - tl.sum(latent, 0) / LATENT, 0.0)
        rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / LATENT + epsilon)
    return centred * rstd, rstd


@triton.jit
def _standardise_backward(grad, normed, rstd, grad_moments_ptr, LATENT, NORMS_HEADS, BLOCK_D):
    """From the gradient of ``normed``, which :func:`_standardise` returned, to its argument's."""
    if NORMS_HEADS:
        along, average = tl.load(grad_moments_ptr), tl.load(grad_moments_ptr + 1)
    else:
        along, average = tl.sum(grad * normed, 0) / LATENT, tl.sum(grad, 0) / LATENT
    is_latent = tl.arange(0, BLOCK_D) < LATENT
    return tl.where(is_latent, (grad - average - normed * along) * rstd, 0.0)


@triton.jit
def _activate(normed, norm_weight_ptr, norm_bias_ptr, LATENT, BLOCK_D):
    """Scale, shift, ReLU."""
    scale = _load_vector(norm_weight_ptr, LATENT, BLOCK_D)
    shift = _load_vector(norm_bias_ptr, LATENT, BLOCK_D)
    return tl.maximum(normed * scale + shift, 0.0)


@triton.jit
def _decode(active, decoder_ptr, LATENT, SIZE, BLOCK_D, BLOCK_K):
    """The gate, K numbers in (0, 1)."""
    decoder = _load_matrix(decoder_ptr, SIZE, LATENT, BLOCK_K, BLOCK_D)
    return 1.0 / (1.0 + tl.exp(-tl.sum(decoder * active[None, :], 1)))


@triton.jit
def _normalise(logits, SIZE, SOFTMAX, BLOCK_K):
    """The softmax over K numbers, or the numbers themselves."""
    if SOFTMAX:
        is_tap = tl.arange(0, BLOCK_K) < SIZE
        logits = tl.where(is_tap, logits, float("-inf"))
        powers = tl.exp(logits - tl.max(logits, 0))
        logits = powers / tl.sum(powers, 0)
    return logits


@triton.jit
def _normalise_backward(values, grad, SOFTMAX):
    """From the gradient of ``values``, which :func:`_normalise` returned, to its argument's."""
    if SOFTMAX:
        grad = values * (grad - tl.sum(values * grad, 0))
    return grad


@triton.jit
def _apply_gate(weight, gate, TARGET, SIZE, SOFTMAX, BLOCK_K):
    """The modulated kernel; TARGET is a name in :data:`~fairseq_cgc.core.sentence_gate.TARGETS`."""
    if TARGET == "logits":
        kernel = _normalise(weight * gate, SIZE, SOFTMAX, BLOCK_K)
    else:
        tl.static_assert(TARGET == "kernel")
        kernel = _normalise(weight, SIZE, SOFTMAX, BLOCK_K) * gate
    return kernel


@triton.jit
def _apply_gate_backward(grad, weight, gate, TARGET, SIZE, SOFTMAX, BLOCK_K):
    """From the gradient of what :func:`_apply_gate` returned to those of weight and gate."""
    if TARGET == "logits":
        kernel = _normalise(weight * gate, SIZE, SOFTMAX, BLOCK_K)
        grad = _normalise_backward(kernel, grad, SOFTMAX)
        grad_weight, grad_gate = grad * gate, grad * weight
    else:
        tl.static_assert(TARGET == "kernel")
        kernel = _normalise(weight, SIZE, SOFTMAX, BLOCK_K)
        grad_weight, grad_gate = _normalise_backward(kernel, grad * gate, SOFTMAX), grad * kernel
    return grad_weight, grad_gate


@triton.jit(do_not_specialize=["time"])
def encode(
    latent_ptr,  # B x H x d
    pooled_ptr,  # B x H x P
    x_ptr,
    mask_ptr,
    encoder_ptr,
    time,
    time_stride,
    batch_stride,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    POOLED: tl.constexpr,
    LATENT: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Pool and encode one row; arguments as for :func:`modulate`."""
    row = tl.program_id(0)
    b, h = row // HEADS, row % HEADS
    x_ptr += b.to(tl.int64) * batch_stride + h * WIDTH
    mask_ptr += b * time
    pooled = pool_head(x_ptr, mask_ptr, time, time_stride, WIDTH, POOLED, BLOCK_T, BLOCK_R, BLOCK_P)
    _store_vector(pooled_ptr + row * POOLED, pooled, POOLED, BLOCK_P)
    latent = _encode(pooled, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D)
    _store_vector(latent_ptr + row * LATENT, latent, LATENT, BLOCK_D)


@triton.jit(do_not_specialize=["time"])
def modulate(
    kernel_ptr,  # B x H x K
    pooled_ptr,  # B x H x P, written unless NORMS_HEADS, which reads it
    x_ptr,  # T x B x C with the strides below; the last is 1
    mask_ptr,  # B x T, not 0 at padding
    moments_ptr,  # B x 2, for NORMS_HEADS: mean and 1 / deviation over H x d
    weight_ptr,  # H x K
    encoder_ptr,  # d x P
    norm_weight_ptr,  # d, or H x d for NORMS_HEADS
    norm_bias_ptr,  # likewise
    decoder_ptr,  # K x d
    time,
    time_stride,
    batch_stride,
    epsilon,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
    POOLED: tl.constexpr,
    LATENT: tl.constexpr,
    SOFTMAX: tl.constexpr,
    TARGET: tl.constexpr,
    NORMS_HEADS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """The modulated kernel of one row."""
    row = tl.program_id(0)
    b, h = row // HEADS, row % HEADS
    if NORMS_HEADS:
        pooled = _load_vector(pooled_ptr + row * POOLED, POOLED, BLOCK_P)
        norm_weight_ptr += h * LATENT
        norm_bias_ptr += h * LATENT
    else:
        x_ptr += b.to(tl.int64) * batch_stride + h * WIDTH
        mask_ptr += b * time
        pooled = pool_head(
            x_ptr, mask_ptr, time, time_stride, WIDTH, POOLED, BLOCK_T, BLOCK_R, BLOCK_P
        )
        _store_vector(pooled_ptr + row * POOLED, pooled, POOLED, BLOCK_P)
    latent = _encode(pooled, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D)
    normed, _ = _standardise(latent, moments_ptr + 2 * b, epsilon, LATENT, NORMS_HEADS, BLOCK_D)
    active = _activate(normed, norm_weight_ptr, norm_bias_ptr, LATENT, BLOCK_D)
    gate = _decode(active, decoder_ptr, LATENT, SIZE, BLOCK_D, BLOCK_K)
    weight = _load_vector(weight_ptr + h * SIZE, SIZE, BLOCK_K)
    kernel = _apply_gate(weight, gate, TARGET, SIZE, SOFTMAX, BLOCK_K)
    _store_vector(kernel_ptr + row * SIZE, kernel, SIZE, BLOCK_K)


@triton.jit(do_not_specialize=["time", "rows"])
def modulate_backward(
    partial_ptr,  # B H x (2K + 4d), written: what the parameters' gradients come from
    share_ptr,  # B x H x T, written: gradient of every channel of a head by the gate
    tap_ptr,  # B x H x rows x K: summed over rows and scaled, the kernel's gradient
    pooled_ptr,  # B x H x P
    mask_ptr,
    moments_ptr,
    weight_ptr,
    encoder_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    decoder_ptr,
    time,
    rows,
    scale,
    epsilon,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
    POOLED: tl.constexpr,
    LATENT: tl.constexpr,
    SOFTMAX: tl.constexpr,
    TARGET: tl.constexpr,
    NORMS_HEADS: tl.constexpr,
    WANTS_SHARE: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """The gradients of one row.

    ``partial`` holds the gradients of the weight (K) and of the gate's logits (K), the decoder's
    input (d), and the gradients of the encoder's output, the norm's scale and its shift (d each).
    For NORMS_HEADS :func:`encode_backward` writes that of the encoder's output, and ``share``.
    """
    row = tl.program_id(0)
    b, h = row // HEADS, row % HEADS
    if NORMS_HEADS:
        norm_weight_ptr += h * LATENT
        norm_bias_ptr += h * LATENT
    k = tl.arange(0, BLOCK_K)
    grad = tl.zeros((BLOCK_K,), tl.float32)
    tap_ptr += row.to(tl.int64) * rows * SIZE
    for start in range(0, rows, SUMMED_AT_ONCE):
        i = start + tl.arange(0, SUMMED_AT_ONCE)
        inside = (i < rows)[:, None] & (k < SIZE)[None, :]
        grad += tl.sum(tl.load(tap_ptr + i[:, None] * SIZE + k[None, :], mask=inside, other=0.0), 0)
    grad = grad * scale

    pooled = _load_vector(pooled_ptr + row * POOLED, POOLED, BLOCK_P)
    latent = _encode(pooled, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D)
    normed, rstd = _standardise(latent, moments_ptr + 2 * b, epsilon, LATENT, NORMS_HEADS, BLOCK_D)
    active = _activate(normed, norm_weight_ptr, norm_bias_ptr, LATENT, BLOCK_D)
    gate = _decode(active, decoder_ptr, LATENT, SIZE, BLOCK_D, BLOCK_K)
    weight = _load_vector(weight_ptr + h * SIZE, SIZE, BLOCK_K)
    grad_weight, grad_gate = _apply_gate_backward(
        grad, weight, gate, TARGET, SIZE, SOFTMAX, BLOCK_K
    )
    grad_logits = grad_gate * gate * (1.0 - gate)
    decoder = _load_matrix(decoder_ptr, SIZE, LATENT, BLOCK_K, BLOCK_D)
    grad_shift = tl.where(active > 0.0, tl.sum(decoder * grad_logits[:, None], 0), 0.0)

    partial_ptr += row.to(tl.int64) * (2 * SIZE + 4 * LATENT)
    _store_vector(partial_ptr, grad_weight, SIZE, BLOCK_K)
    _store_vector(partial_ptr + SIZE, grad_logits, SIZE, BLOCK_K)
    partial_ptr += 2 * SIZE
    _store_vector(partial_ptr, active, LATENT, BLOCK_D)
    _store_vector(partial_ptr + 2 * LATENT, grad_shift * normed, LATENT, BLOCK_D)
    _store_vector(partial_ptr + 3 * LATENT, grad_shift, LATENT, BLOCK_D)
    if not NORMS_HEADS:
        grad = grad_shift * _load_vector(norm_weight_ptr, LATENT, BLOCK_D)
        grad = _standardise_backward(grad, normed, rstd, moments_ptr, LATENT, False, BLOCK_D)
        _store_vector(partial_ptr + LATENT, grad, LATENT, BLOCK_D)
        if WANTS_SHARE:
            grad = _encode_backward(grad, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D)
            share_ptr += row.to(tl.int64) * time
            share_out(share_ptr, grad, mask_ptr + b * time, time, WIDTH, POOLED, BLOCK_T, BLOCK_P)


@triton.jit(do_not_specialize=["time"])
def encode_backward(
    partial_ptr,
    share_ptr,
    grad_moments_ptr,  # B x 2: averages of the gradient times the normalised, and of it
    pooled_ptr,
    mask_ptr,
    moments_ptr,
    encoder_ptr,
    norm_weight_ptr,
    time,
    epsilon,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
    POOLED: tl.constexpr,
    LATENT: tl.constexpr,
    WANTS_SHARE: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """The rest of :func:`modulate_backward` for NORMS_HEADS, from the averages over all heads."""
    row = tl.program_id(0)
    b, h = row // HEADS, row % HEADS
    partial_ptr += row.to(tl.int64) * (2 * SIZE + 4 * LATENT) + 2 * SIZE
    pooled = _load_vector(pooled_ptr + row * POOLED, POOLED, BLOCK_P)
    latent = _encode(pooled, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D)
    normed, rstd = _standardise(latent, moments_ptr + 2 * b, epsilon, LATENT, True, BLOCK_D)
    grad = _load_vector(partial_ptr + 3 * LATENT, LATENT, BLOCK_D)
    grad = grad * _load_vector(norm_weight_ptr + h * LATENT, LATENT, BLOCK_D)
    grad_moments_ptr += 2 * b
    grad = _standardise_backward(grad, normed, rstd, grad_moments_ptr, LATENT, True, BLOCK_D)
    _store_vector(partial_ptr + LATENT, grad, LATENT, BLOCK_D)
    if WANTS_SHARE:
        grad = _encode_backward(grad, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D)
        share_ptr += row.to(tl.int64) * time
        share_out(share_ptr, grad, mask_ptr + b * time, time, WIDTH, POOLED, BLOCK_T, BLOCK_P)
