"""Convolution whose kernel a gate modulates for each sample (equations 1 and 2).

The gates and the modulated kernels of a batch need B times the memory of the weight, in ResNet-50
more than all its feature maps. Here they exist for a few samples at a time, and the backward pass
computes them again from the two branches, which are small.

Shape letters: B batch, c input channels, o output channels, G groups, K = prod(kernel).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.flop_counter import conv_flop_count, register_flop_formula

from fairseq_cgc.core.plain import is_proxy, is_transformed, must_be_plain
from fairseq_cgc.core.sample_convolution import METHODS, Geometry, choose_method, convolve_samples

#: Bytes for the kernels computed at a time, and for their unfolded inputs (at least one sample's):
#: they fit a CPU's cache, or keep a GPU busy.
WORKSPACE = {"cpu": 2 * 2**20, "cuda": 256 * 2**20}

T = TypeVar("T", Tensor, Tensor | None)

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


def sample_kernels(
    weight: Tensor, g1: Tensor | None, g2: Tensor | None, groups: int = 1, combine: str = "sum"
) -> Tensor:
    """The modulated kernels, B x o x c/G x kernel; arguments as for :func:`gated_convolution`."""
    return grouped_kernels(weight, g1, g2, groups, combine).view(-1, *weight.shape)


def grouped_kernels(
    weight: Tensor, g1: Tensor | None, g2: Tensor | None, groups: int, combine: str
) -> Tensor:
    """The modulated kernels as B x G x o/G x c/G x K."""
    weight, g1, g2 = _wide(weight), _wide(g1), _wide(g2)
    return _weight_by_group(weight, groups) * _gate(*_by_group(g1, g2, groups), combine)


def kernels_of_gate(weight: Tensor, gate: Tensor, groups: int) -> Tensor:
    """As :func:`grouped_kernels`, from the gate itself, B x o x c x kernel."""
    gate = _wide(gate.flatten(3)).unflatten(2, (groups, -1)).unflatten(1, (groups, -1))
    # B x G x o/G x G x c/G x K, where the weights of a group see only its own channels.
    gate = gate.diagonal(dim1=1, dim2=3).movedim(-1, 1)
    return _weight_by_group(_wide(weight), groups) * gate


def _wide(tensor: T) -> T:
    """At least float32."""
    if tensor is None or is_proxy(tensor):  # gates are in float32 already
        return tensor
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _by_group(
    g1: Tensor | None, g2: Tensor | None, groups: int
) -> tuple[Tensor | None, Tensor | None]:
    """B x G x 1 x c/G x K and B x G x o/G x 1 x K."""
    return (
        None if g1 is None else g1.flatten(2).unflatten(1, (groups, 1, -1)),
        None if g2 is None else g2.flatten(2).unflatten(1, (groups, -1, 1)),
    )


def _weight_by_group(weight: Tensor, groups: int) -> Tensor:
    """G x o/G x c/G x K, contiguous."""
    return weight.flatten(2).unflatten(0, (groups, -1)).contiguous()


def _gate(g1: Tensor | None, g2: Tensor | None, combine: str, out: Tensor | None = None) -> Tensor:
    """Equation 1; broadcastable over a missing branch's channels, else written to ``out``."""
    if g1 is None or g2 is None:
        only = g1 if g1 is not None else g2
        assert only is not None
        return only.sigmoid()
    join = torch.add if combine == "sum" else torch.mul
    return join(g1, g2).sigmoid() if out is None else join(g1, g2, out=out).sigmoid_()


class _Chunks:
    """Iterates over a few samples at a time with their kernels, in memory that all chunks share.

    Args:
        keeps_gate: whether the gate is needed beside the kernels.
    """

    def __init__(
        self,
        x: Tensor,
        weight: Tensor,
        g1: Tensor | None,
        g2: Tensor | None,
        combine: str,
        geometry: Geometry,
        *,
        keeps_gate: bool,
    ) -> None:
        self.dtype = torch.promote_types(weight.dtype, torch.float32)
        self.shape = weight.shape
        self.weight = _weight_by_group(weight.to(self.dtype), geometry.groups)
        g1, g2 = _by_group(g1, g2, geometry.groups)
        self.g1 = None if g1 is None else g1.to(self.dtype)
        self.g2 = None if g2 is None else g2.to(self.dtype)
        self.combine = combine
        self.method = METHODS[choose_method(x, weight.shape, geometry)]
        columns = x.shape[1] * prod(weight.shape[2:])
        columns *= prod(geometry.output_size(x.shape[2:], weight.shape[2:]))
        largest = max(weight.numel(), columns if self.method is METHODS["unfold"] else 0)
        workspace = WORKSPACE["cpu" if x.device.type == "cpu" else "cuda"]
        self.samples = max(1, workspace // (largest * self.dtype.itemsize))
        self.batch = len(x)
        # Fresh memory for each chunk would cost more than what is computed in it.
        shape = (min(self.samples, self.batch), *self.weight.shape)
        self.kernels = self.weight.new_empty(shape)
        self.gate = torch.empty_like(self.kernels) if keeps_gate else self.kernels

    def __iter__(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """The samples, their gates and their kernels, n x G x o/G x c/G x K."""
        for start in range(0, self.batch, self.samples):
            chunk = slice(start, min(start + self.samples, self.batch))
            n = chunk.stop - start
            g1 = None if self.g1 is None else self.g1[chunk]
            g2 = None if self.g2 is None else self.g2[chunk]
            gate = _gate(g1, g2, self.combine, out=self.gate[:n])
            yield chunk, gate, torch.mul(self.weight, gate, out=self.kernels[:n])

    def kernels_for(self, x: Tensor, kernels: Tensor) -> Tensor:
        """The kernels as a method of :data:`METHODS` takes them, in x's dtype."""
        return kernels.to(x.dtype).view(-1, *self.shape)


@torch.library.custom_op(
    "fairseq_cgc::gated_convolution", mutates_args=(), schema=f"({_ARGUMENTS}) -> Tensor"
)
def _operation(
    x: Tensor, weight: Tensor, g1: Tensor | None, g2: Tensor | None, combine: str, *sliding: Any
) -> Tensor:
    geometry = Geometry.from_lists(*sliding)
    out = _empty_output(x, weight, geometry)
    chunks = _Chunks(x, weight, g1, g2, combine, geometry, keeps_gate=False)
    for chunk, _, kernels in chunks:
        out[chunk] = chunks.method.forward(x[chunk], chunks.kernels_for(x, kernels), geometry)
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
    chunks = _Chunks(x, weight, g1, g2, combine, geometry, keeps_gate=True)
    total = torch.zeros_like(chunks.weight)  # in float32 at least, as it sums over the samples
    to_g1, to_g2 = _by_group(  # views
        None if g1 is None else grad_g1, None if g2 is None else grad_g2, geometry.groups
    )
    for chunk, gate, kernels in chunks:
        grad_chunk, grad_kernels = chunks.method.backward(
            grad[chunk], x[chunk], chunks.kernels_for(x, kernels), geometry, needs_x
        )
        if grad_chunk is not None:
            grad_x[chunk] = grad_chunk
        # The weight's gradient is gate * grad_kernels; the logits' is that times
        # weight * (1 - gate) = weight - kernels.
        product = grad_kernels.to(chunks.dtype).reshape(kernels.shape).mul_(gate)
        total += product[0] if len(product) == 1 else product.sum(0)
        grad_logits = product.mul_(torch.sub(chunks.weight, kernels, out=kernels))
        for target, other, channels in ((to_g1, chunks.g2, 2), (to_g2, chunks.g1, 3)):
            if target is None:
                continue
            grad_branch = grad_logits
            if combine == "product" and other is not None:
                grad_branch = grad_logits * other[chunk]
            target[chunk] = grad_branch.sum(channels, keepdim=True)
    grad_weight.copy_(total.view(weight.shape))
    return grad_x, grad_weight, grad_g1, grad_g2


def _empty_output(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """In channels_last where x or weight is, as torch's own convolutions do."""
    size = geometry.output_size(x.shape[2:], weight.shape[2:])
    memory_format = torch.contiguous_format
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
    for tensor in (x, weight):
        if last and tensor.is_contiguous(memory_format=last) and not tensor.is_contiguous():
            memory_format = last
    return torch.empty(
        (x.shape[0], weight.shape[0], *size),
        dtype=x.dtype,
        device=x.device,
        memory_format=memory_format,
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
