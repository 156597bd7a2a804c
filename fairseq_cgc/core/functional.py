"""Lightweight convolution, with one kernel for all sentences or a kernel for each.

Four ways to the same result, chosen by :func:`light_convolution`: ``band`` turns each kernel into
a T x T band matrix, the fastest way for sentences on a CPU; ``blocked`` cuts long inputs into
blocks that share one small band matrix, so that time and memory grow with T and not with its
square; ``triton`` is a kernel for GPUs; ``unfolded`` is for what transforms, traces or exports the
computation (:mod:`~fairseq_cgc.core.plain`), and for empty inputs.

Shape letters: B batch, T time, C channels, H heads, R = C / H channels per head, K kernel.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable

from torch import Tensor

from fairseq_cgc.core import gpu as kernels
from fairseq_cgc.core.autocast import to_autocast_dtype
from fairseq_cgc.core.band import band
from fairseq_cgc.core.blocked import blocked
from fairseq_cgc.core.plain import must_be_plain
from fairseq_cgc.core.unfolded import unfolded
from fairseq_cgc.support.errors import UserError

logger = logging.getLogger(__name__)

#: Environment variable that forces one of :data:`METHODS`.
FORCE = "FAIRSEQ_CGC_KERNEL"
#: Positions from which on ``blocked`` needs less time and memory (benchmarks/op.py).
BLOCKED_FROM = 96


def light_convolution(
    x: Tensor,
    kernel: Tensor,
    *,
    padding_l: int | None = None,
    dropout: float = 0.0,
    training: bool = False,
) -> Tensor:
    """Convolve every channel of a head with that head's kernel, zeros beyond both ends.

    Args:
        x: T x B x C, zero at padded positions.
        kernel: B x H x K, or 1 x H x K for one kernel for all sentences. In half precision its
            gradient, a sum over all positions, is exact only if the kernel is in float32.
        padding_l: zeros before the first position, 0 to K - 1; K - 1 - padding_l follow the
            last. K - 1 looks back only, as a decoder must; K // 2 where it is None.
        dropout: probability of DropConnect, drawn for each output position by itself as
            fairseq's lightweight convolution draws it.
        training: whether DropConnect is active.

    Returns:
        T x B x C in x's dtype, whatever the kernel's; under autocast in autocast's, as torch's
        convolutions.

    Raises:
        UserError: for another padding_l, or if the environment variable FAIRSEQ_CGC_KERNEL names
            no method.
    """
    kernel_size = kernel.shape[2]
    if padding_l is None:
        padding_l = kernel_size // 2
    elif not 0 <= padding_l < kernel_size:
        raise UserError(f"padding_l must be from 0 to {kernel_size - 1}, but is {padding_l}")
    x = to_autocast_dtype(x)
    method = "unfolded" if needs_unfolded(x) else choose_method(x, kernel_size)
    return METHODS[method](x, kernel, padding_l, dropout if training else 0.0)


def needs_unfolded(x: Tensor) -> bool:
    """Whether no other method can be used, whatever FAIRSEQ_CGC_KERNEL says."""
    return must_be_plain(x, compiles=False) or x.numel() == 0


def choose_method(x: Tensor, kernel_size: int) -> str:
    """The fastest method for an input T x B x C, reported in the log when first used.

    Raises:
        UserError: if the environment variable FAIRSEQ_CGC_KERNEL names no method, or ``triton``
            where that cannot be used.
    """
    forced = os.environ.get(FORCE)
    if forced is not None and forced not in METHODS:
        raise UserError(f"{FORCE} is {forced!r}, but must be {', '.join(METHODS)}")
    obstacle = kernels.supports(x, kernel_size)
    if forced == "triton" and obstacle is not None:
        raise UserError(f"{FORCE} is 'triton', but {obstacle}")
    if forced is not None:
        _tell(forced, f"forced by {FORCE}")
        return forced
    if x.is_cuda and obstacle is None:
        _tell("triton", "on a GPU")
        return "triton"
    if x.is_cuda:
        _warn(f"without the GPU kernel, because {obstacle}")
    method = "blocked" if len(x) >= max(BLOCKED_FROM, 3 * kernel_size) else "band"
    _tell(method, "by length")
    return method


@functools.cache
def _warn(what: str) -> None:
    logger.warning("lightweight convolution %s", what)


@functools.cache
def _tell(method: str, why: str) -> None:
    logger.debug("lightweight convolution: %s (%s)", method, why)


def _triton(x: Tensor, kernel: Tensor, padding_l: int, dropout: float) -> Tensor:
    return kernels.light_convolution(x, kernel, padding_l=padding_l, dropout=dropout)


#: The name of each method, and its function of x, kernel, padding_l and dropout.
METHODS: dict[str, Callable[[Tensor, Tensor, int, float], Tensor]] = {
    "band": band,
    "blocked": blocked,
    "triton": _triton,
    "unfolded": unfolded,
}
