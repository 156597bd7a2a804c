"""Lightweight convolution, with one kernel for all sentences or a kernel for each.

Two ways to the same result, chosen by :func:`light_convolution`: ``band`` turns each kernel into a
T x T band matrix, the fastest way for sentences; ``blocked`` cuts long inputs into blocks that
share one small band matrix, so that time and memory grow with T and not with its square.

Shape letters: B batch, T time, C channels, H heads, R = C / H channels per head, K kernel.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable

from torch import Tensor

from fairseq_cgc.core.band import band
from fairseq_cgc.core.blocked import blocked
from fairseq_cgc.core.errors import UserError

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
        kernel: B x H x K, or 1 x H x K for one kernel for all sentences.
        padding_l: zeros before the first position, 0 to K - 1; K - 1 - padding_l follow the
            last. K - 1 looks back only, as a decoder must; K // 2 where it is None.
        dropout: probability of DropConnect, drawn for each output position by itself as
            fairseq's lightweight convolution draws it.
        training: whether DropConnect is active.

    Returns:
        T x B x C.

    Raises:
        UserError: for another padding_l, or if the environment variable FAIRSEQ_CGC_KERNEL names
            no method.
    """
    kernel_size = kernel.shape[2]
    if padding_l is None:
        padding_l = kernel_size // 2
    if not 0 <= padding_l < kernel_size:
        raise UserError(f"padding_l must be from 0 to {kernel_size - 1}, but is {padding_l}")
    method = choose_method(x, kernel_size)
    return METHODS[method](x, kernel, padding_l, dropout if training else 0.0)


def choose_method(x: Tensor, kernel_size: int) -> str:
    """The method for an input T x B x C, told in the log when first used.

    Raises:
        UserError: if the environment variable FAIRSEQ_CGC_KERNEL names no method.
    """
    forced = os.environ.get(FORCE)
    if forced is not None and forced not in METHODS:
        raise UserError(f"{FORCE} is {forced!r}, but must be {' or '.join(METHODS)}")
    method = forced or ("blocked" if len(x) >= max(BLOCKED_FROM, 3 * kernel_size) else "band")
    _tell(method, forced is not None)
    return method


@functools.cache
def _tell(method: str, is_forced: bool) -> None:
    why = f"forced by {FORCE}" if is_forced else f"blocked from {BLOCKED_FROM} positions on"
    logger.debug("lightweight convolution: %s (%s)", method, why)


METHODS: dict[str, Callable[[Tensor, Tensor, int, float], Tensor]] = {
    "band": band,
    "blocked": blocked,
}
