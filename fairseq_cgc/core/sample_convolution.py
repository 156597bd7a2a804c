"""Convolution with a kernel for each sample, and the choice of the method.

The caller (:mod:`fairseq_cgc.core.gated_convolution`) bounds memory by passing a few samples or
output channels at a time.

Shape letters: n samples, c input channels, o output channels, G groups.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from fairseq_cgc.core.plain import is_recorded, must_be_plain
from fairseq_cgc.core.sample_methods import METHODS, Geometry, windows_of
from fairseq_cgc.support.errors import UserError

logger = logging.getLogger(__name__)

#: Environment variable that forces one of :data:`METHODS`.
FORCE = "FAIRSEQ_CGC_CONV"
# The rule for a CPU, measured by benchmarks/conv.py.
#: Input channels per group below which ``loop`` is fastest: groups would be too narrow.
LOOP_BELOW = 8
#: ``unfold`` is fastest up to so many output positions and from so many weights on: arranging such
#: a kernel for a convolution takes as long as a sample's convolution itself. But several threads
#: share the products of a few samples' matrices badly in float32.
UNFOLD_UP_TO, UNFOLD_FROM = 256, 2**21
#: Weights from which ``loop`` is fastest where x has its channels last, which groups cannot have.
LOOP_FROM = 2**15


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
        return method(x, kernel_size, geometry).forward(kernels)
    if not is_recorded(x):
        geometry.output_size(x.shape[2:], kernel_size)
    windows = windows_of(x, kernel_size, geometry).unflatten(1, (geometry.groups, -1))
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
        _log_method(forced, f"forced by {FORCE}")
        return forced
    positions = prod(geometry.output_size(x.shape[2:], weight_shape[2:]))
    weights = prod(weight_shape)
    if x.device.type != "cpu":
        method, why = "grouped", f"on {x.device.type}"
    elif _torch_is_wrong(x, weight_shape[2:]):
        method, why = "unfold", "bfloat16 in 3 dimensions, one of them smaller than the kernel"
    elif weight_shape[1] < LOOP_BELOW:
        method, why = "loop", f"below {LOOP_BELOW} input channels a group"
    elif positions <= UNFOLD_UP_TO and weights >= UNFOLD_FROM and _multiplies_well(x):
        method, why = "unfold", f"up to {UNFOLD_UP_TO} positions, from {UNFOLD_FROM} weights on"
    elif weights >= LOOP_FROM and channels_last_format(x):
        method, why = "loop", f"channels last, from {LOOP_FROM} weights on"
    else:
        method, why = "grouped", "a usual shape"
    _log_method(method, why)
    return method


def _torch_is_wrong(x: Tensor, kernel_size: Sequence[int]) -> bool:
    """Whether torch 2.13 on a CPU returns wrong gradients of the kernel, and may even crash."""
    is_small = any(n < k for n, k in zip(x.shape[2:], kernel_size, strict=True))
    return x.dtype == torch.bfloat16 and x.dim() == 5 and is_small


def _multiplies_well(x: Tensor) -> bool:
    """Whether products of a few samples' matrices keep all threads busy on a CPU."""
    return x.dtype == torch.bfloat16 or torch.get_num_threads() == 1


def channels_last_format(tensor: Tensor) -> torch.memory_format | None:
    """The memory format of a tensor with channels last, None of any other."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.dim())
    if last is None or tensor.is_contiguous() or not tensor.is_contiguous(memory_format=last):
        return None
    return last


@functools.cache
def _log_method(method: str, why: str) -> None:
    logger.debug("convolution with a kernel for each sample: %s (%s)", method, why)
