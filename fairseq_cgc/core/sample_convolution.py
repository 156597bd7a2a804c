"""Convolution with a kernel for each sample: exact algorithms, and the choice between them.

``loop`` convolves sample by sample; ``grouped`` makes the samples groups of one convolution;
``unfold`` copies every window into a column and multiplies matrices. All are written for any
number of spatial dimensions, forward and backward, without autograd. The caller
(:mod:`fairseq_cgc.core.gated_convolution`) bounds memory by passing a few samples at a time.

Shape letters: n samples, c input channels, o output channels, G groups.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_cgc.core.plain import is_recorded, must_be_plain
from fairseq_cgc.support.errors import UserError

logger = logging.getLogger(__name__)

#: Environment variable that forces one of :data:`METHODS`.
FORCE = "FAIRSEQ_CGC_CONV"
# The rule for a CPU, measured by benchmarks/conv.py.
#: Input channels per group below which ``loop`` is fastest: groups would be too narrow.
LOOP_BELOW = 8
#: ``unfold`` is fastest up to so many output positions and from so many weights on: arranging such
#: a kernel for a convolution takes as long as a sample's convolution itself.
UNFOLD_UP_TO, UNFOLD_FROM = 64, 2**20

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


class Method(NamedTuple):
    """An algorithm: ``forward(x, kernels, geometry)`` and its derivatives.

    x is n x c x spatial, kernels n x o x c/G x kernel, the output n x o x spatial. ``backward(grad,
    x, kernels, geometry, needs_x)`` returns new tensors: the gradients of x, or None where it is
    not needed, and of the kernels.
    """

    forward: Callable[[Tensor, Tensor, Geometry], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor, Geometry, bool], tuple[Tensor | None, Tensor]]


def convolve_samples(
    x: Tensor,
    kernels: Tensor,
    kernel_size: Sequence[int],
    geometry: Geometry,
    *,
    plain: bool = False,
) -> Tensor:
    """Convolve each sample with its own kernel; autograd finds all derivatives.

    Args:
        x: n x c x spatial.
        kernels: n x G x o/G x c/G x prod(kernel).
        plain: use the same few torch operations for any number of samples of any size, as where
            :func:`~fairseq_cgc.core.plain.must_be_plain`.

    Returns:
        n x o x spatial in x's dtype.

    Raises:
        UserError: as :func:`choose_method` and :meth:`Geometry.output_size`.
    """
    kernels = kernels.to(x.dtype)
    if not must_be_plain(x, asked=plain, compiles=False):
        kernels = kernels.flatten(1, 2).unflatten(3, tuple(kernel_size))
        method = METHODS[choose_method(x, kernels.shape[1:], geometry)]
        return method.forward(x, kernels, geometry)
    if not is_recorded(x):
        geometry.output_size(x.shape[2:], kernel_size)
    windows = _windows(x, kernel_size, geometry).unflatten(1, (geometry.groups, -1))
    return torch.einsum("bgock,bgck...->bgo...", kernels, windows).flatten(1, 2)


def choose_method(x: Tensor, weight_shape: Sequence[int], geometry: Geometry) -> str:
    """The method for x, B x c x spatial, and weights o x c/G x kernel; logged when first used.

    Raises:
        UserError: if the environment variable FAIRSEQ_CGC_CONV names no method.
    """
    forced = os.environ.get(FORCE)
    if forced is not None:
        if forced not in METHODS:
            raise UserError(f"{FORCE} is {forced!r}, but must be {' or '.join(METHODS)}")
        _tell(forced, f"forced by {FORCE}")
        return forced
    positions = prod(geometry.output_size(x.shape[2:], weight_shape[2:]))
    if x.device.type != "cpu":
        method, why = "grouped", f"on {x.device.type}"
    elif weight_shape[1] < LOOP_BELOW:
        method, why = "loop", f"below {LOOP_BELOW} input channels a group"
    elif positions <= UNFOLD_UP_TO and prod(weight_shape) >= UNFOLD_FROM:
        method, why = "unfold", f"up to {UNFOLD_UP_TO} positions, from {UNFOLD_FROM} weights on"
    else:
        method, why = "grouped", "a usual shape"
    _tell(method, why)
    return method


@functools.cache
def _tell(method: str, why: str) -> None:
    logger.debug("convolution with a kernel for each sample: %s (%s)", method, why)


def _grouped(x: Tensor, kernels: Tensor, geometry: Geometry) -> Tensor:
    n, c = x.shape[:2]
    stride, padding, dilation, groups = geometry
    x = x.reshape(1, n * c, *x.shape[2:])
    out = torch.ops.aten.convolution(
        x, kernels.flatten(0, 1), None, stride, padding, dilation, False, [0] * len(stride),
        n * groups,
    )  # fmt: skip
    return out.reshape(n, -1, *out.shape[2:])


def _grouped_backward(
    grad: Tensor, x: Tensor, kernels: Tensor, geometry: Geometry, needs_x: bool
) -> tuple[Tensor | None, Tensor]:
    n, c = x.shape[:2]
    stride, padding, dilation, groups = geometry
    grad_x, grad_kernels, _ = torch.ops.aten.convolution_backward(
        grad.reshape(1, -1, *grad.shape[2:]), x.reshape(1, n * c, *x.shape[2:]),
        kernels.flatten(0, 1), None, stride, padding, dilation, False, [0] * len(stride),
        n * groups, [needs_x, True, False],
    )  # fmt: skip
    return grad_x.reshape(x.shape) if needs_x else None, grad_kernels.reshape(kernels.shape)


def _loop(x: Tensor, kernels: Tensor, geometry: Geometry) -> Tensor:
    samples = zip(x.split(1), kernels.split(1), strict=True)
    outs = [_grouped(*sample, geometry) for sample in samples]
    return torch.cat(outs) if len(outs) > 1 else outs[0]


def _loop_backward(
    grad: Tensor, x: Tensor, kernels: Tensor, geometry: Geometry, needs_x: bool
) -> tuple[Tensor | None, Tensor]:
    samples = zip(grad.split(1), x.split(1), kernels.split(1), strict=True)
    found = [_grouped_backward(*sample, geometry, needs_x) for sample in samples]
    grad_x, grad_kernels = zip(*found, strict=True)
    return torch.cat(grad_x) if needs_x else None, torch.cat(grad_kernels)


def _unfold(x: Tensor, kernels: Tensor, geometry: Geometry) -> Tensor:
    columns = _columns(x, kernels.shape[3:], geometry)
    size = geometry.output_size(x.shape[2:], kernels.shape[3:])
    return torch.bmm(_matrices(kernels, geometry), columns).reshape(len(x), -1, *size)


def _unfold_backward(
    grad: Tensor, x: Tensor, kernels: Tensor, geometry: Geometry, needs_x: bool
) -> tuple[Tensor | None, Tensor]:
    columns = _columns(x, kernels.shape[3:], geometry)
    grad = grad.reshape(len(columns), -1, columns.shape[2])  # nG x o/G x positions
    grad_kernels = torch.bmm(grad, columns.transpose(1, 2)).view(kernels.shape)
    if not needs_x:
        return None, grad_kernels
    grad_columns = torch.bmm(_matrices(kernels, geometry).transpose(1, 2), grad)
    return _fold(grad_columns, x, kernels.shape[3:], geometry), grad_kernels


def _matrices(kernels: Tensor, geometry: Geometry) -> Tensor:
    """nG x o/G x (c/G * prod(kernel))."""
    rows = kernels.shape[1] // geometry.groups
    return kernels.reshape(len(kernels) * geometry.groups, rows, -1)


def _columns(x: Tensor, kernel_size: Sequence[int], geometry: Geometry) -> Tensor:
    """Every window as a column: nG x (c/G * prod(kernel)) x positions."""
    rows = x.shape[1] // geometry.groups * prod(kernel_size)
    return _windows(x, kernel_size, geometry).view(len(x) * geometry.groups, rows, -1)


def _windows(x: Tensor, kernel_size: Sequence[int], geometry: Geometry) -> Tensor:
    """The inputs that each tap of the kernel sees: n x c x prod(kernel) x size."""
    pads = [p for padding in reversed(geometry.padding) for p in (padding, padding)]
    x = F.pad(x.contiguous(), pads)
    taps = product(*map(range, kernel_size))
    return torch.stack([x[_seen(tap, kernel_size, geometry)] for tap in taps], 2)


def _fold(columns: Tensor, x: Tensor, kernel_size: Sequence[int], geometry: Geometry) -> Tensor:
    """The adjoint of :func:`_columns`: sums the entries that each position of x was copied to."""
    size = geometry.output_size(x.shape[2:], kernel_size)
    padded = [n + 2 * p for n, p in zip(x.shape[2:], geometry.padding, strict=True)]
    taps = columns.reshape(*x.shape[:2], prod(kernel_size), *size).unbind(2)
    out = x.new_zeros(*x.shape[:2], *padded)
    for tap, values in zip(product(*map(range, kernel_size)), taps, strict=True):
        out[_seen(tap, kernel_size, geometry)] += values
    for dim, (n, p) in enumerate(zip(x.shape[2:], geometry.padding, strict=True), start=2):
        out = out.narrow(dim, p, n)
    return out


def _seen(tap: Sequence[int], kernel_size: Sequence[int], geometry: Geometry) -> tuple[slice, ...]:
    """The positions of the padded input that this tap of the kernel sees."""
    windows = [
        slice(t * d, (t - k + 1) * d or None, s)
        for t, k, s, d in zip(tap, kernel_size, geometry.stride, geometry.dilation, strict=True)
    ]
    return (slice(None), slice(None), *windows)


METHODS = {
    "loop": Method(_loop, _loop_backward),
    "grouped": Method(_grouped, _grouped_backward),
    "unfold": Method(_unfold, _unfold_backward),
}
