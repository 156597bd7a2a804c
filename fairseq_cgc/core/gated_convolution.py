"""Convolution whose kernel a gate modulates for each sample (equations 1 and 2).

The gates and the modulated kernels of a batch need B times the memory of the weight, in ResNet-50
more than all its feature maps. Here they exist for a few samples or output channels at a time, and
the backward pass computes them again from the two branches, which are small.

Shape letters: B batch, c input channels, o output channels, G groups, K = prod(kernel).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import conv_flop_count, register_flop_formula

from fairseq_cgc.core.modulated_kernels import KernelBlocks, grouped_kernels
from fairseq_cgc.core.plain import is_transformed, must_be_plain
from fairseq_cgc.core.sample_convolution import channels_last_format, convolve_samples
from fairseq_cgc.core.sample_methods import Geometry

_ARGUMENTS = (
    "Tensor x, Tensor weight, Tensor? g1, Tensor? g2, str combine, "
    "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups"
)


def gated_convolution(
    x: Tensor,
    weight: Tensor,
    g1: Tensor | None,
    g2: Tensor | None,
    geometry: Geometry,
    *,
    combine: str = "sum",
    plain: bool = False,
) -> Tensor:
    """Convolve each sample with ``weight * sigmoid(g1 + g2)``, computed in float32 at least.

    With groups, the gate is that of the convolution without groups, at the weights that exist.

    Args:
        x: B x c x spatial.
        weight: o x c/G x kernel.
        g1: B x c x kernel, or None; at least one branch is required.
        g2: B x o x kernel, or None.
        combine: ``"sum"`` or ``"product"`` of the branches.
        plain: use plain torch operations, which keep all kernels and windows in memory, as for
            second derivatives and where :func:`~fairseq_cgc.core.plain.must_be_plain`.

    Returns:
        B x o x spatial in x's dtype; channels_last where x or weight is.

    Raises:
        UserError: as :func:`~fairseq_cgc.core.sample_convolution.convolve_samples`.
    """
    if must_be_plain(x, asked=plain):
        kernels = grouped_kernels(weight, g1, g2, geometry.groups, combine)
        return convolve_samples(x, kernels, weight.shape[2:], geometry, plain=True)
    return _operation(x, weight, g1, g2, combine, *geometry)


@torch.library.custom_op(
    "fairseq_cgc::gated_convolution", mutates_args=(), schema=f"({_ARGUMENTS}) -> Tensor"
)
def _operation(
    x: Tensor, weight: Tensor, g1: Tensor | None, g2: Tensor | None, combine: str, *sliding: Any
) -> Tensor:
    geometry = Geometry.from_lists(*sliding)
    out = _empty_output(x, weight, geometry)
    out_rows = out.unflatten(1, (geometry.groups, -1))
    kernels = KernelBlocks(x, weight, g1, g2, combine, geometry, keeps_kernels=False)
    for samples, convolution in kernels.chunks():
        for rows, _, values in kernels.blocks(samples):
            found = convolution.forward(kernels.to_kernels(values))
            out_rows[samples, :, rows] = found.unflatten(1, (geometry.groups, -1))
    return out


@torch.library.custom_op(
    "fairseq_cgc::gated_convolution_backward",
    mutates_args=(),
    schema=f"(Tensor grad, {_ARGUMENTS}, bool needs_x) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _backward_operation(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    g1: Tensor | None,
    g2: Tensor | None,
    combine: str,
    *others: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *sliding, needs_x = others
    geometry = Geometry.from_lists(*sliding)
    grad_x, grad_weight, grad_g1, grad_g2 = _empty_gradients(x, weight, g1, g2, needs_x)
    kernels = KernelBlocks(x, weight, g1, g2, combine, geometry, keeps_kernels=needs_x)
    # In float32 at least, as they sum over samples and output channels.
    total = torch.zeros_like(kernels.weight)
    of_g1 = None if kernels.g1 is None else torch.zeros_like(kernels.g1)
    of_g2 = None if kernels.g2 is None else torch.empty_like(kernels.g2)
    grad_rows = grad.unflatten(1, (geometry.groups, -1))
    for samples, convolution in kernels.chunks():
        for rows, gate, values in kernels.blocks(samples):
            grad_kernels = kernels.from_kernels(
                convolution.backward_kernels(
                    grad_rows[samples, :, rows].flatten(1, 2), kernels.to_kernels(values)
                )
            )
            for one, its_gate in zip(grad_kernels, gate, strict=True):
                total[:, rows].addcmul_(one, its_gate)
            grad_logits = grad_kernels.mul_(kernels.weight[:, rows])
            torch.ops.aten.sigmoid_backward.grad_input(grad_logits, gate, grad_input=grad_logits)
            to_g1 = to_g2 = grad_logits
            if combine == "product" and kernels.g1 is not None and kernels.g2 is not None:
                to_g1 = grad_logits * kernels.g2[samples, :, rows]
                to_g2 = grad_logits * kernels.g1[samples]
            if of_g1 is not None:
                of_g1[samples] += to_g1.sum(2, keepdim=True)
            if of_g2 is not None:
                of_g2[samples, :, rows] = to_g2.sum(kernels.channels, keepdim=True)
        if needs_x:
            values = kernels.to_kernels(kernels.kernels[: samples.stop - samples.start])
            grad_x[samples] = convolution.backward_x(grad[samples], values)
    for target, found in ((grad_weight, total), (grad_g1, of_g1), (grad_g2, of_g2)):
        if found is not None:
            target.copy_(kernels.arranged(found).reshape(target.shape))
    return grad_x, grad_weight, grad_g1, grad_g2


def _empty_output(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """In channels_last where x or weight is, as torch's own convolutions do."""
    size = geometry.output_size(x.shape[2:], weight.shape[2:])
    memory_format = channels_last_format(x) or channels_last_format(weight)
    return torch.empty(
        (x.shape[0], weight.shape[0], *size),
        dtype=x.dtype,
        device=x.device,
        memory_format=memory_format or torch.contiguous_format,
    )


def _empty_gradients(
    x: Tensor, weight: Tensor, g1: Tensor | None, g2: Tensor | None, needs_x: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """An operation must return tensors: those that are not needed have no elements."""

    def for_branch(branch: Tensor | None) -> Tensor:
        # A new empty tensor each time, because two outputs must not be the same tensor.
        if branch is None:
            return x.new_empty(0)
        return torch.empty_like(branch, memory_format=torch.contiguous_format)

    grad_x = torch.empty_like(x) if needs_x else x.new_empty(0)
    return grad_x, torch.empty_like(weight), for_branch(g1), for_branch(g2)


@_operation.register_fake
def _(x, weight, g1, g2, combine, *sliding):  # type: ignore[no-untyped-def]
    return _empty_output(x, weight, Geometry(*sliding))


@_backward_operation.register_fake
def _(grad, x, weight, g1, g2, *others):  # type: ignore[no-untyped-def]
    return _empty_gradients(x, weight, g1, g2, others[-1])


# torch's counter of operations cannot look inside. Like it, leave elementwise products out.
@register_flop_formula(torch.ops.fairseq_cgc.gated_convolution)
def _count(x_shape: Any, weight_shape: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return conv_flop_count(x_shape, weight_shape, out_shape)


@register_flop_formula(torch.ops.fairseq_cgc.gated_convolution_backward)
def _count_backward(
    grad_shape: Any, x_shape: Any, weight_shape: Any, *others: Any, **_: Any
) -> int:
    needs_x = bool(others[-1])
    return (1 + needs_x) * conv_flop_count(x_shape, weight_shape, grad_shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.others = inputs[4:]


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    tensors, needs = ctx.saved_tensors, ctx.needs_input_grad
    if torch.is_grad_enabled() or is_transformed():  # the gradient is to be differentiated too
        found = _differentiate_plainly(grad, tensors, ctx.others, needs)
    else:
        found = _backward_operation(grad, *tensors, *ctx.others, needs[0])
    gradients = [value if needed else None for value, needed in zip(found, needs, strict=False)]
    return (*gradients, *[None] * len(ctx.others))


def _differentiate_plainly(
    grad: Tensor, tensors: tuple[Tensor | None, ...], others: Any, needs: Sequence[bool]
) -> Iterator[Tensor | None]:
    combine, *geometry = others
    with torch.enable_grad():
        # Views, because the branches may depend on x: only what lies between these inputs and the
        # output is to be differentiated.
        x, weight, g1, g2 = (None if t is None else t.view_as(t) for t in tensors)
        assert x is not None and weight is not None
        out = gated_convolution(x, weight, g1, g2, Geometry(*geometry), combine=combine, plain=True)
    tensors = (x, weight, g1, g2)
    inputs = [t for t, needed in zip(tensors, needs, strict=False) if needed and t is not None]
    found = iter(torch.autograd.grad(out, inputs, grad, create_graph=torch.is_grad_enabled()))
    return (next(found) if needed else None for needed in needs[: len(tensors)])


_operation.register_autograd(_differentiate, setup_context=_setup_context)
