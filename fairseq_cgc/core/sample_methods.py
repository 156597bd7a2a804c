"""Three exact methods to convolve each sample with a kernel of its own.

``loop`` convolves sample by sample; ``grouped`` makes the samples groups of one convolution;
``unfold`` copies every window into a row and multiplies matrices. All are written for any number
of spatial dimensions, forward and backward, without autograd.

Shape letters: n samples, c input channels, o output channels, G groups.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import product
from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_cgc.support.errors import UserError

Sizes = tuple[int, ...]


class Geometry(NamedTuple):
    """How a kernel slides, one number per spatial dimension each, and the groups."""

    stride: Sizes
    padding: Sizes
    dilation: Sizes
    groups: int

    @classmethod
    def from_lists(
        cls, stride: list[int], padding: list[int], dilation: list[int], groups: int
    ) -> Geometry:
        """From the arguments of a registered operation, whose sizes are lists."""
        return cls(tuple(stride), tuple(padding), tuple(dilation), groups)

    def output_size(self, size: Sequence[int], kernel_size: Sequence[int]) -> list[int]:
        """The output's size for the input's.

        Raises:
            UserError: if the padded input is smaller than the kernel.
        """
        found = []
        for n, k, s, p, d in zip(
            size, kernel_size, self.stride, self.padding, self.dilation, strict=True
        ):
            if n + 2 * p < d * (k - 1) + 1:
                raise UserError(
                    f"the padded input must be as large as the kernel, but a dimension of {n} "
                    f"padded by {p} is smaller than {k} taps with dilation {d}"
                )
            found.append((n + 2 * p - d * (k - 1) - 1) // s + 1)
        return found


class SampleConvolution(ABC):
    """A few samples, to be convolved with kernels of their own by one of :data:`METHODS`.

    Kernels are n x o x c/G x kernel. They, and the gradient of the output, may be those of some
    output channels only, as many of each group.

    Args:
        x: n x c x spatial.
        kernel_size: of all spatial dimensions.
        geometry: how the kernels slide.
    """

    def __init__(self, x: Tensor, kernel_size: Sequence[int], geometry: Geometry) -> None:
        self.x, self.kernel_size, self.geometry = x, tuple(kernel_size), geometry

    @abstractmethod
    def forward(self, kernels: Tensor) -> Tensor:
        """The output, n x o x spatial; autograd finds all derivatives."""

    @abstractmethod
    def backward_x(self, grad: Tensor, kernels: Tensor) -> Tensor:
        """The gradient of x, in any dtype: a new tensor."""

    @abstractmethod
    def backward_kernels(self, grad: Tensor, kernels: Tensor) -> Tensor:
        """The gradient of the kernels: a new tensor."""


class Grouped(SampleConvolution):
    """The samples are groups of one convolution."""

    def forward(self, kernels: Tensor) -> Tensor:
        out = torch.ops.aten.convolution(
            _joined(self.x), kernels.flatten(0, 1), None, *self._sliding(kernels)
        )
        return out.unflatten(1, (len(kernels), -1)).squeeze(0)

    def backward_x(self, grad: Tensor, kernels: Tensor) -> Tensor:
        return self._backward(grad, kernels, 0).view_as(self.x)

    def backward_kernels(self, grad: Tensor, kernels: Tensor) -> Tensor:
        return self._backward(grad, kernels, 1).unflatten(0, kernels.shape[:2])

    def _backward(self, grad: Tensor, kernels: Tensor, of: int) -> Tensor:
        return torch.ops.aten.convolution_backward(
            _joined(grad), _joined(self.x), kernels.flatten(0, 1), None, *self._sliding(kernels),
            [of == 0, of == 1, False],
        )[of]  # fmt: skip

    def _sliding(self, kernels: Tensor) -> tuple[object, ...]:
        stride, padding, dilation, groups = self.geometry
        return stride, padding, dilation, False, [0] * len(stride), len(kernels) * groups


def _joined(x: Tensor) -> Tensor:
    return x.reshape(1, -1, *x.shape[2:])


class Loop(SampleConvolution):
    """One sample after the other."""

    def forward(self, kernels: Tensor) -> Tensor:
        return self._each("forward", kernels)

    def backward_x(self, grad: Tensor, kernels: Tensor) -> Tensor:
        return self._each("backward_x", grad, kernels)

    def backward_kernels(self, grad: Tensor, kernels: Tensor) -> Tensor:
        return self._each("backward_kernels", grad, kernels)

    def _each(self, name: str, *tensors: Tensor) -> Tensor:
        samples = zip(*(tensor.split(1) for tensor in (self.x, *tensors)), strict=True)
        found = [
            getattr(Grouped(x, self.kernel_size, self.geometry), name)(*others)
            for x, *others in samples
        ]
        return torch.cat(found) if len(found) > 1 else found[0]


class Unfold(SampleConvolution):
    """Every window is copied into a row, channels last, for products of matrices."""

    def __init__(self, x: Tensor, kernel_size: Sequence[int], geometry: Geometry) -> None:
        super().__init__(x, kernel_size, geometry)
        self.size = geometry.output_size(x.shape[2:], kernel_size)
        stride, padding, dilation, groups = geometry
        pads = [p for padding in reversed(padding) for p in (padding, padding)]
        padded = F.pad(x.movedim(1, -1), [0, 0, *pads]).contiguous()
        of_sample, *of_sides, _ = padded.stride()
        starts = [step * s for step, s in zip(of_sides, stride, strict=True)]
        taps = [step * d for step, d in zip(of_sides, dilation, strict=True)]
        width = x.shape[1] // groups
        windows = padded.as_strided(
            (len(x), groups, *self.size, *kernel_size, width),
            (of_sample, width, *starts, *taps, 1),
        )
        #: nG x positions x (prod(kernel) * c/G).
        self.rows = windows.reshape(len(x) * groups, prod(self.size), -1)

    def forward(self, kernels: Tensor) -> Tensor:
        # nG x positions x o/G; matmul would copy the kernels.
        out = torch.bmm(self.rows, self._matrices(kernels).transpose(1, 2))
        return out.transpose(1, 2).reshape(*kernels.shape[:2], *self.size)

    def backward_x(self, grad: Tensor, kernels: Tensor) -> Tensor:
        grad = self._by_group(grad).transpose(1, 2)
        return self._fold(torch.bmm(grad, self._matrices(kernels)))

    def backward_kernels(self, grad: Tensor, kernels: Tensor) -> Tensor:
        found = torch.bmm(self._by_group(grad), self.rows)
        return found.view(*kernels.shape[:2], *self.kernel_size, -1).movedim(-1, 2)

    def _matrices(self, kernels: Tensor) -> Tensor:
        """nG x o/G x (prod(kernel) * c/G)."""
        return kernels.movedim(2, -1).reshape(len(self.rows), -1, self.rows.shape[2])

    def _by_group(self, grad: Tensor) -> Tensor:
        """nG x o/G x positions."""
        return grad.reshape(len(self.rows), -1, self.rows.shape[1])

    def _fold(self, rows: Tensor) -> Tensor:
        """The adjoint of unfolding, in float32 at least: sums the entries of each position."""
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        n, c, *sides = self.x.shape
        _, padding, _, groups = self.geometry
        # prod(kernel) times n x size x G x c/G.
        values = rows.view(n, groups, *self.size, prod(self.kernel_size), -1).movedim(1, -2)
        padded = [side + 2 * p for side, p in zip(sides, padding, strict=True)]
        out = rows.new_zeros(n, *padded, groups, c // groups)
        for number, tap in enumerate(product(*map(range, self.kernel_size))):
            sample, _, *windows = _seen(tap, self.kernel_size, self.geometry)
            out[(sample, *windows)] += values[..., number, :, :]
        for dim, (side, p) in enumerate(zip(sides, padding, strict=True), start=1):
            out = out.narrow(dim, p, side)
        return out.flatten(-2).movedim(-1, 1)


def windows_of(x: Tensor, kernel_size: Sequence[int], geometry: Geometry) -> Tensor:
    """The inputs that each tap of the kernel sees: n x c x prod(kernel) x size."""
    pads = [p for padding in reversed(geometry.padding) for p in (padding, padding)]
    x = F.pad(x.contiguous(), pads)
    taps = product(*map(range, kernel_size))
    return torch.stack([x[_seen(tap, kernel_size, geometry)] for tap in taps], 2)


def _seen(tap: Sequence[int], kernel_size: Sequence[int], geometry: Geometry) -> tuple[slice, ...]:
    """The positions of the padded input, n x c x spatial, that this tap of the kernel sees."""
    windows = [
        slice(t * d, (t - k + 1) * d or None, s)
        for t, k, s, d in zip(tap, kernel_size, geometry.stride, geometry.dilation, strict=True)
    ]
    return (slice(None), slice(None), *windows)


METHODS: dict[str, type[SampleConvolution]] = {
    "loop": Loop,
    "grouped": Grouped,
    "unfold": Unfold,
}
