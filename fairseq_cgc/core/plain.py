"""Whether a call must be made of plain torch operations, and in which dtype under autocast.

The fast paths of this package are operations with their own derivative: correct for training and
inference, but opaque to whatever transforms or records a computation. There, each layer computes
the same with torch's own operations, which can be differentiated in any mode and to any order,
mapped over batches, traced and exported.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, fx
from torch.autograd import forward_ad

#: Environment variable that asks for plain operations everywhere, unless it is empty or 0.
FORCE = "FAIRSEQ_CGC_PLAIN"


def must_be_plain(*inputs: Any, asked: bool = False, compiles: bool = True) -> bool:
    """Whether this call must be made of plain torch operations.

    It must where the caller or the environment variable FAIRSEQ_CGC_PLAIN asks for it; under the
    transforms of ``torch.func`` (jvp, vmap, grad, hessian ...) and forward-mode differentiation;
    and under ``torch.jit.trace``, ``torch.fx`` (symbolic tracing and ``make_fx``),
    ``torch.export`` and ``torch.onnx.export``.

    Args:
        inputs: the tensors of the call, one of which is a proxy under symbolic tracing.
        asked: the layer's or function's own argument.
        compiles: whether ``torch.compile`` can take the other path as one graph.
    """
    if asked or os.environ.get(FORCE, "0") not in ("", "0"):
        return True
    if torch.compiler.is_compiling():
        return not compiles or is_transformed() or _is_exporting()
    return is_transformed() or is_recorded(*inputs)


def is_transformed() -> bool:
    """Whether a transform of ``torch.func`` or forward-mode differentiation is active."""
    return forward_ad._current_level >= 0 or _is_in_torch_func()


def _is_in_torch_func() -> bool:
    return torch._C._functorch.maybe_current_level() is not None


# The compiler cannot look inside, so it calls this while tracing and guards the answer itself. This
# is what torch.compiler.assume_constant_result does, without importing the compiler.
_is_in_torch_func._dynamo_marked_constant = True  # type: ignore[attr-defined]


def is_recorded(*inputs: Any) -> bool:
    """Whether a tracer, an export or the compiler records the call, to be run on other sizes."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or any(map(is_proxy, inputs))
        or torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None
    )


def is_proxy(x: Any) -> bool:
    """Whether x stands for a tensor under symbolic tracing, and so has no shape."""
    return isinstance(x, fx.Proxy)


def _is_exporting() -> bool:
    # torch 2.6 cannot tell an export from a compilation: plain operations are right for both.
    return getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)()


def is_autocast_on(device: str) -> bool:
    """Whether autocast would choose the dtype of operations on a type of device."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def to_autocast_dtype(x: Tensor) -> Tensor:
    """x in the dtype in which autocast computes a convolution; x itself where it is off."""
    device = x.device.type
    if x.dtype == torch.float64 or not is_autocast_on(device):
        return x
    return x.to(torch.get_autocast_dtype(device))
