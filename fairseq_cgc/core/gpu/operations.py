"""The two differentiable operations: lightweight convolution with and without the context gate.

Shape letters: B batch, T time, C channels, H heads, R = C / H channels per head, K kernel,
P pooled positions, d latent size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fairseq_cgc.core.gpu.convolution import convolve, draw_seed, drop_scale, multiply_taps
from fairseq_cgc.core.gpu.modulation import (
    Gate,
    modulate,
    modulate_backward,
    parameter_gradients,
)
from fairseq_cgc.core.sentence_gate import TARGETS
from fairseq_cgc.support.errors import UserError


def light_convolution(
    x: Tensor,
    kernel: Tensor,
    *,
    padding_l: int,
    padding_mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """:func:`fairseq_cgc.core.light_convolution`, which chooses this one on a GPU.

    Args:
        x: T x B x C.
        kernel: B x H x K, or 1 x H x K for one kernel for all sentences; any floating type.
        padding_l: input positions before an output's own that the kernel sees, 0 to K - 1.
        padding_mask: B x T, boolean, True at padding, where x counts as zero whatever it holds.
        dropout: probability of DropConnect, seeded by torch's generator.

    Returns:
        T x B x C in x's dtype, whatever the kernel's; values at padding are meaningless.
    """
    return _LightConvolution.apply(x, kernel, padding_l, padding_mask, dropout, draw_seed(dropout))


def cg_light_conv(
    x: Tensor,
    padding_mask: Tensor | None,
    weight: Tensor,
    encoder: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    decoder: Tensor,
    *,
    norm_eps: float,
    weight_softmax: bool,
    gate_target: str,
    dropout: float = 0.0,
) -> Tensor:
    """Lightweight convolution whose kernels are gated by the whole sentence.

    What :class:`fairseq_cgc.core.CGLightConv` computes without its bias; the gate and the kernels
    are computed in float32, the convolution in x's dtype. P is 3K.

    Args:
        x: T x B x C; values at padding, even NaN, do not matter.
        padding_mask: B x T, boolean, True at padding.
        weight: H x 1 x K.
        encoder: d x P.
        norm_weight: d; or H x d, for one LayerNorm over all heads.
        norm_bias: likewise.
        decoder: K x d.
        norm_eps: of the LayerNorm.
        weight_softmax: normalise the kernels by a softmax.
        gate_target: a fused one of :data:`~fairseq_cgc.core.sentence_gate.TARGETS`.
        dropout: probability of DropConnect.

    Returns:
        T x B x C in x's dtype; values at padding are meaningless.

    Raises:
        UserError: for a gate target that the kernels do not have.
    """
    if gate_target not in TARGETS or not TARGETS[gate_target].is_fused:
        fused = tuple(name for name, target in TARGETS.items() if target.is_fused)
        raise UserError(
            f"gate_target must be one of {fused} for the Triton kernels, but is {gate_target!r}"
        )
    parameters = (weight, encoder, norm_weight, norm_bias, decoder)
    options = (norm_eps, weight_softmax, gate_target)
    drops = (dropout, draw_seed(dropout))
    return _GatedConvolution.apply(x, padding_mask, options, *drops, *parameters)


def _first_derivative(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse to be differentiated.

    torch's ``once_differentiable`` would silently return no derivative where the incoming gradient
    does not require gradients itself.
    """

    @functools.wraps(backward)
    def only_without_graph(ctx: Any, grad: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the Triton kernels have no second derivatives (create_graph=True): "
                "set FAIRSEQ_CGC_PLAIN=1 in the environment"
            )
        return backward(ctx, grad)

    return only_without_graph


class _LightConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        kernel: Tensor,
        padding_l: int,
        padding_mask: Tensor | None,
        dropout: float,
        seed: int,
    ) -> Tensor:
        x, kernel = _rows(x), kernel.contiguous()
        padding_mask = None if padding_mask is None else _bytes(padding_mask)
        ctx.save_for_backward(x, kernel, padding_mask)
        ctx.padding_l, ctx.dropout, ctx.seed = padding_l, dropout, seed
        with torch.cuda.device_of(x):
            return convolve(
                x, kernel, padding_l, padding_mask=padding_mask, dropout=dropout, seed=seed
            )

    @staticmethod
    @_first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel, padding_mask = ctx.saved_tensors
        grad = _rows(grad)
        drops = {"padding_mask": padding_mask, "dropout": ctx.dropout, "seed": ctx.seed}
        grad_x = grad_kernel = None
        if ctx.needs_input_grad[0]:
            grad_x = convolve(grad, kernel, ctx.padding_l, transposed=True, **drops)
        if ctx.needs_input_grad[1]:
            heads, size = kernel.shape[1:]
            taps = multiply_taps(grad, x, heads, size, ctx.padding_l, **drops)
            summed = taps.sum(2) if len(kernel) > 1 else taps.sum((0, 2)).unsqueeze(0)
            if ctx.dropout > 0:
                summed *= drop_scale(ctx.dropout)
            grad_kernel = summed.to(kernel.dtype)
        return grad_x, grad_kernel, None, None, None, None


class _GatedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        padding_mask: Tensor | None,
        options: tuple[float, bool, str],
        dropout: float,
        seed: int,
        *parameters: Tensor,
    ) -> Tensor:
        x = _rows(x)
        # A mask even where nothing is padded: half as many kernels have to be compiled.
        if padding_mask is None:
            padding_mask = torch.zeros(x.shape[1], x.shape[0], dtype=torch.bool, device=x.device)
        padding_mask = _bytes(padding_mask)
        gate = _make_gate(parameters, options)
        drops: dict[str, Any] = {"padding_mask": padding_mask, "dropout": dropout, "seed": seed}
        with torch.cuda.device_of(x):
            kernel, pooled, moments = modulate(x, padding_mask, gate)
            out = convolve(x, kernel, kernel.shape[2] // 2, **drops)
        ctx.save_for_backward(x, padding_mask, kernel, pooled, moments, *gate.parameters)
        ctx.options, ctx.dropout, ctx.seed = options, dropout, seed
        return out

    @staticmethod
    @_first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, padding_mask, kernel, pooled, moments, *parameters = ctx.saved_tensors
        gate = _make_gate(parameters, ctx.options)
        grad = _rows(grad)
        heads, size = gate.weight.shape
        wants_x, wants_parameters = ctx.needs_input_grad[0], any(ctx.needs_input_grad[5:])
        drops = {"padding_mask": padding_mask, "dropout": ctx.dropout, "seed": ctx.seed}
        taps = multiply_taps(grad, x, heads, size, size // 2, **drops)
        share, partial = modulate_backward(
            taps,
            drop_scale(ctx.dropout),
            pooled,
            moments,
            padding_mask,
            gate,
            time=len(x),
            width=x.shape[2] // heads,
            wants_share=wants_x,
        )
        grad_x = None
        if wants_x:
            grad_x = convolve(grad, kernel, size // 2, transposed=True, share=share, **drops)
        if not wants_parameters:
            return grad_x, *[None] * 9
        weight, *others = parameter_gradients(partial, pooled, gate)
        found = zip([weight.unsqueeze(1), *others], parameters, strict=True)
        return grad_x, *[None] * 4, *[g.to(p.dtype) for g, p in found]


def _rows(x: Tensor) -> Tensor:
    """x with the channels of each position contiguous."""
    return x if x.stride(2) == 1 else x.contiguous()


def _bytes(mask: Tensor) -> Tensor:
    """A boolean mask as the kernels read it."""
    return mask.contiguous().view(torch.uint8)


def _make_gate(parameters: Sequence[Tensor], options: tuple[float, bool, str]) -> Gate:
    weight, encoder, norm_weight, norm_bias, decoder = (p.contiguous() for p in parameters)
    return Gate(weight.flatten(1), encoder, norm_weight, norm_bias, decoder, *options)
