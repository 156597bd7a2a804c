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

from fairseq_cgc.core.gpu.gate import (
    activate,
    apply_gate,
    apply_gate_backward,
    decode,
    encode_context,
    encode_context_backward,
    load_matrix,
    load_vector,
    standardise,
    standardise_backward,
    store_vector,
)
from fairseq_cgc.core.gpu.pooling import pool_head, share_out
from fairseq_cgc.core.gpu.tiles import SUMMED_AT_ONCE


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
    store_vector(pooled_ptr + row * POOLED, pooled, POOLED, BLOCK_P)
    latent = encode_context(pooled, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D)
    store_vector(latent_ptr + row * LATENT, latent, LATENT, BLOCK_D)


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
        pooled = load_vector(pooled_ptr + row * POOLED, POOLED, BLOCK_P)
        norm_weight_ptr += h * LATENT
        norm_bias_ptr += h * LATENT
    else:
        x_ptr += b.to(tl.int64) * batch_stride + h * WIDTH
        mask_ptr += b * time
        pooled = pool_head(
            x_ptr, mask_ptr, time, time_stride, WIDTH, POOLED, BLOCK_T, BLOCK_R, BLOCK_P
        )
        store_vector(pooled_ptr + row * POOLED, pooled, POOLED, BLOCK_P)
    latent = encode_context(pooled, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D)
    normed, _ = standardise(latent, moments_ptr + 2 * b, epsilon, LATENT, NORMS_HEADS, BLOCK_D)
    active = activate(normed, norm_weight_ptr, norm_bias_ptr, LATENT, BLOCK_D)
    gate = decode(active, decoder_ptr, LATENT, SIZE, BLOCK_D, BLOCK_K)
    weight = load_vector(weight_ptr + h * SIZE, SIZE, BLOCK_K)
    kernel = apply_gate(weight, gate, TARGET, SIZE, SOFTMAX, BLOCK_K)
    store_vector(kernel_ptr + row * SIZE, kernel, SIZE, BLOCK_K)


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

    pooled = load_vector(pooled_ptr + row * POOLED, POOLED, BLOCK_P)
    latent = encode_context(pooled, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D)
    normed, rstd = standardise(latent, moments_ptr + 2 * b, epsilon, LATENT, NORMS_HEADS, BLOCK_D)
    active = activate(normed, norm_weight_ptr, norm_bias_ptr, LATENT, BLOCK_D)
    gate = decode(active, decoder_ptr, LATENT, SIZE, BLOCK_D, BLOCK_K)
    weight = load_vector(weight_ptr + h * SIZE, SIZE, BLOCK_K)
    grad_weight, grad_gate = apply_gate_backward(grad, weight, gate, TARGET, SIZE, SOFTMAX, BLOCK_K)
    grad_logits = grad_gate * gate * (1.0 - gate)
    decoder = load_matrix(decoder_ptr, SIZE, LATENT, BLOCK_K, BLOCK_D)
    grad_shift = tl.where(active > 0.0, tl.sum(decoder * grad_logits[:, None], 0), 0.0)

    partial_ptr += row.to(tl.int64) * (2 * SIZE + 4 * LATENT)
    store_vector(partial_ptr, grad_weight, SIZE, BLOCK_K)
    store_vector(partial_ptr + SIZE, grad_logits, SIZE, BLOCK_K)
    partial_ptr += 2 * SIZE
    store_vector(partial_ptr, active, LATENT, BLOCK_D)
    store_vector(partial_ptr + 2 * LATENT, grad_shift * normed, LATENT, BLOCK_D)
    store_vector(partial_ptr + 3 * LATENT, grad_shift, LATENT, BLOCK_D)
    if not NORMS_HEADS:
        grad = grad_shift * load_vector(norm_weight_ptr, LATENT, BLOCK_D)
        grad = standardise_backward(grad, normed, rstd, moments_ptr, LATENT, False, BLOCK_D)
        store_vector(partial_ptr + LATENT, grad, LATENT, BLOCK_D)
        if WANTS_SHARE:
            grad = encode_context_backward(grad, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D)
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
    pooled = load_vector(pooled_ptr + row * POOLED, POOLED, BLOCK_P)
    latent = encode_context(pooled, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D)
    normed, rstd = standardise(latent, moments_ptr + 2 * b, epsilon, LATENT, True, BLOCK_D)
    grad = load_vector(partial_ptr + 3 * LATENT, LATENT, BLOCK_D)
    grad = grad * load_vector(norm_weight_ptr + h * LATENT, LATENT, BLOCK_D)
    grad_moments_ptr += 2 * b
    grad = standardise_backward(grad, normed, rstd, grad_moments_ptr, LATENT, True, BLOCK_D)
    store_vector(partial_ptr + LATENT, grad, LATENT, BLOCK_D)
    if WANTS_SHARE:
        grad = encode_context_backward(grad, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D)
        share_ptr += row.to(tl.int64) * time
        share_out(share_ptr, grad, mask_ptr + b * time, time, WIDTH, POOLED, BLOCK_T, BLOCK_P)
