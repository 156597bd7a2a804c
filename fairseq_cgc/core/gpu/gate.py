"""The context gate of one head and sentence, for Triton kernels: each step and its gradient.

Shape letters: K kernel, P pooled positions, d latent size. A vector is padded with zeros to BLOCK
numbers.
"""

# Parameters of Triton functions are Triton's: capitals are compile-time constants.
# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_vector(ptr, SIZE, BLOCK):
    """SIZE numbers in float32, followed by zeros."""
    i = tl.arange(0, BLOCK)
    return tl.load(ptr + i, mask=i < SIZE, other=0.0).to(tl.float32)


@triton.jit
def load_matrix(ptr, ROWS, COLUMNS, BLOCK_M, BLOCK_N):
    """A contiguous matrix in float32, padded with zeros."""
    m, n = tl.arange(0, BLOCK_M)[:, None], tl.arange(0, BLOCK_N)[None, :]
    inside = (m < ROWS) & (n < COLUMNS)
    return tl.load(ptr + m * COLUMNS + n, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def store_vector(ptr, values, SIZE, BLOCK):
    i = tl.arange(0, BLOCK)
    tl.store(ptr + i, values, mask=i < SIZE)


@triton.jit
def encode_context(pooled, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D):
    """d numbers, followed by zeros."""
    encoder = load_matrix(encoder_ptr, LATENT, POOLED, BLOCK_D, BLOCK_P)
    return tl.sum(encoder * pooled[None, :], 1)


@triton.jit
def encode_context_backward(grad, encoder_ptr, POOLED, LATENT, BLOCK_P, BLOCK_D):
    """From the gradient of what :func:`encode_context` returned to that of the pooled positions."""
    encoder = load_matrix(encoder_ptr, LATENT, POOLED, BLOCK_D, BLOCK_P)
    return tl.sum(encoder * grad[:, None], 0)


@triton.jit
def standardise(latent, moments_ptr, epsilon, LATENT, NORMS_HEADS, BLOCK_D):
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
def standardise_backward(grad, normed, rstd, grad_moments_ptr, LATENT, NORMS_HEADS, BLOCK_D):
    """From the gradient of ``normed``, which :func:`standardise` returned, to its argument's."""
    if NORMS_HEADS:
        along, average = tl.load(grad_moments_ptr), tl.load(grad_moments_ptr + 1)
    else:
        along, average = tl.sum(grad * normed, 0) / LATENT, tl.sum(grad, 0) / LATENT
    is_latent = tl.arange(0, BLOCK_D) < LATENT
    return tl.where(is_latent, (grad - average - normed * along) * rstd, 0.0)


@triton.jit
def activate(normed, norm_weight_ptr, norm_bias_ptr, LATENT, BLOCK_D):
    """Scale, shift, ReLU."""
    scale = load_vector(norm_weight_ptr, LATENT, BLOCK_D)
    shift = load_vector(norm_bias_ptr, LATENT, BLOCK_D)
    return tl.maximum(normed * scale + shift, 0.0)


@triton.jit
def decode(active, decoder_ptr, LATENT, SIZE, BLOCK_D, BLOCK_K):
    """The gate, K numbers in (0, 1)."""
    decoder = load_matrix(decoder_ptr, SIZE, LATENT, BLOCK_K, BLOCK_D)
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
def apply_gate(weight, gate, TARGET, SIZE, SOFTMAX, BLOCK_K):
    """The modulated kernel; TARGET is a name in :data:`~fairseq_cgc.core.sentence_gate.TARGETS`."""
    if TARGET == "logits":
        kernel = _normalise(weight * gate, SIZE, SOFTMAX, BLOCK_K)
    else:
        tl.static_assert(TARGET == "kernel")
        kernel = _normalise(weight, SIZE, SOFTMAX, BLOCK_K) * gate
    return kernel


@triton.jit
def apply_gate_backward(grad, weight, gate, TARGET, SIZE, SOFTMAX, BLOCK_K):
    """From the gradient of what :func:`apply_gate` returned to those of weight and gate."""
    if TARGET == "logits":
        kernel = _normalise(weight * gate, SIZE, SOFTMAX, BLOCK_K)
        grad = _normalise_backward(kernel, grad, SOFTMAX)
        grad_weight, grad_gate = grad * gate, grad * weight
    else:
        tl.static_assert(TARGET == "kernel")
        kernel = _normalise(weight, SIZE, SOFTMAX, BLOCK_K)
        grad_weight, grad_gate = _normalise_backward(kernel, grad * gate, SOFTMAX), grad * kernel
    return grad_weight, grad_gate
