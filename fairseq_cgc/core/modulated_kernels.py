"""The kernels that a gate modulates for each sample (equations 1 and 2): all at once, or in blocks.

Shape letters: B batch, c input channels, o output channels, G groups, K = prod(kernel).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import TypeVar

import torch
from torch import Tensor

from fairseq_cgc.core.plain import is_proxy
from fairseq_cgc.core.sample_convolution import channels_last_format, choose_method
from fairseq_cgc.core.sample_methods import METHODS, Geometry, SampleConvolution

#: Bytes of the kernels computed at a time, and of their unfolded inputs (at least one sample's):
#: they fit a CPU's cache, or keep a GPU busy. On a CPU, the last stage of ResNet-50 has 128 output
#: channels in them: fewer make products of matrices slow.
WORKSPACE = {"cpu": 9 * 2**18, "cuda": 256 * 2**20}
#: Largest branch whose exponential is used on a CPU; float32 holds the sum of two of them.
EXPONENT = 40

T = TypeVar("T", Tensor, Tensor | None)


def sample_kernels(
    weight: Tensor, g1: Tensor | None, g2: Tensor | None, groups: int = 1, combine: str = "sum"
) -> Tensor:
    """The modulated kernels, B x o x c/G x kernel; arguments as for :func:`gated_convolution`."""
    return grouped_kernels(weight, g1, g2, groups, combine).reshape(-1, *weight.shape)


def grouped_kernels(
    weight: Tensor, g1: Tensor | None, g2: Tensor | None, groups: int, combine: str
) -> Tensor:
    """The modulated kernels as B x G x o/G x c/G x K."""
    weight, g1, g2 = _wide(weight), _wide(g1), _wide(g2)
    weight, (g1, g2) = _weight_by_group(weight, groups), _by_group(g1, g2, groups)
    if g1 is None or g2 is None:
        only = g1 if g1 is not None else g2
        assert only is not None
        return weight * only.sigmoid()
    return weight * (g1 + g2 if combine == "sum" else g1 * g2).sigmoid()


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
    """G x o/G x c/G x K."""
    return weight.flatten(2).unflatten(0, (groups, -1))


class KernelBlocks:
    """The kernels of a few samples, or of a few output channels of one sample, at a time.

    Tensors over the weights are n x G x o/G x c/G x K, or n x G x o/G x K x c/G where the method
    takes kernels with their channels last: :meth:`arranged` changes one into the other.

    Args:
        keeps_kernels: whether :meth:`blocks` fills ``kernels`` for all output channels of some
            samples, and not only for those of a block.
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
        keeps_kernels: bool,
    ) -> None:
        name = choose_method(x, weight.shape, geometry)
        self.method = METHODS[name]
        # Not with groups: torch 2.13 returns wrong gradients of such a kernel in float64.
        is_last = geometry.groups == 1 and channels_last_format(x) is not None
        self.is_last = name == "unfold" or (name == "loop" and is_last)
        #: The dimension of c/G.
        self.channels = 4 if self.is_last else 3
        self.x, self.kernel_size, self.geometry = x, weight.shape[2:], geometry
        self.dtype = torch.promote_types(weight.dtype, torch.float32)
        self.weight = self._contiguous(_weight_by_group(weight, geometry.groups))
        self.g1, self.g2 = (
            None if g is None else self._contiguous(g) for g in _by_group(g1, g2, geometry.groups)
        )
        self.join = self._join(combine)
        windows = x.shape[1] * prod(self.kernel_size)
        windows *= prod(geometry.output_size(x.shape[2:], self.kernel_size))
        largest = max(weight.numel(), windows if name == "unfold" else 0)
        numbers = WORKSPACE["cpu" if x.device.type == "cpu" else "cuda"] // self.dtype.itemsize
        self.samples = min(max(1, numbers // largest), len(x))
        groups, rows, *row = self.weight.shape
        of_rows = self.samples * groups * prod(row)  # numbers for each row
        self.rows = min(max(1, numbers // of_rows), rows)
        # Fresh memory for each block would cost more than what is computed in it.
        shape = (self.samples, groups, self.rows, *row)
        self.gate = self.weight.new_empty(shape)
        self.wide = torch.empty_like(self.gate) if x.dtype != self.dtype else None
        self.keeps_kernels = keeps_kernels
        self.kernels = x.new_empty(self.samples, groups, rows if keeps_kernels else self.rows, *row)

    def _contiguous(self, tensor: Tensor) -> Tensor:
        return self.arranged(tensor.to(self.dtype)).contiguous()

    def _join(self, combine: str) -> Callable[..., Tensor]:
        """What writes the gate of the branches, ``self.g1`` and ``self.g2``, which it may replace.

        On a CPU, sigmoid(g1 + g2) is computed as exp(g1) / (exp(g1) + exp(-g2)), which needs an
        exponential of each branch and not of each sum, of which there are many times more.
        """
        g1, g2 = self.g1, self.g2
        if g1 is None or g2 is None:
            return lambda g1, g2, out: out.copy_(g1 if g2 is None else g2).sigmoid_()
        if combine == "product":
            return lambda g1, g2, out: torch.mul(g1, g2, out=out).sigmoid_()
        if self.x.device.type != "cpu" or not max(g1.abs().max(), g2.abs().max()) < EXPONENT:
            return lambda g1, g2, out: torch.add(g1, g2, out=out).sigmoid_()
        self.g1, self.g2 = g1.exp(), g2.neg().exp_()
        return lambda g1, g2, out: torch.div(g1, torch.add(g1, g2, out=out), out=out)

    def arranged(self, tensor: Tensor) -> Tensor:
        """A view of a tensor whose last two dimensions are c/G (or 1) and K; its own inverse."""
        return tensor.transpose(-1, -2) if self.is_last else tensor

    def to_kernels(self, tensor: Tensor) -> Tensor:
        """A view, n x o x c/G x kernel, as methods take them."""
        return self.arranged(tensor).flatten(1, 2).unflatten(3, self.kernel_size)

    def from_kernels(self, kernels: Tensor) -> Tensor:
        """The inverse of :meth:`to_kernels`, in float32 at least."""
        kernels = self.arranged(kernels.flatten(3).unflatten(1, (self.geometry.groups, -1)))
        if self.wide is None:
            return kernels
        n, _, rows = kernels.shape[:3]
        return self.wide[:n, :, :rows].copy_(kernels)

    def chunks(self) -> Iterator[tuple[slice, SampleConvolution]]:
        """A few samples at a time."""
        for start in range(0, len(self.x), self.samples):
            chunk = slice(start, min(start + self.samples, len(self.x)))
            yield chunk, self.method(self.x[chunk], self.kernel_size, self.geometry)

    def blocks(self, samples: slice) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Some of o/G, with the gates and the kernels (in x's dtype) of these samples."""
        n = samples.stop - samples.start
        for start in range(0, self.weight.shape[1], self.rows):
            rows = slice(start, min(start + self.rows, self.weight.shape[1]))
            block = (slice(n), slice(None), slice(rows.stop - rows.start))
            g1 = None if self.g1 is None else self.g1[samples]
            g2 = None if self.g2 is None else self.g2[samples, :, rows]
            gate = self.join(g1, g2, out=self.gate[block])
            kernels = self.kernels[:n, :, rows] if self.keeps_kernels else self.kernels[block]
            if self.wide is None:
                torch.mul(self.weight[:, rows], gate, out=kernels)
            else:
                kernels.copy_(torch.mul(self.weight[:, rows], gate, out=self.wide[block]))
            yield rows, gate, kernels
