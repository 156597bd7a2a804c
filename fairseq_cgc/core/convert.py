"""Context gates for the convolutions of a model that exists already."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import prod
from typing import TypeVar, Unpack

from torch import nn
from torch.nn.modules.conv import _ConvNd

from fairseq_cgc.core.convolution import (
    CGConv1d,
    CGConv2d,
    CGConv3d,
    GateSwitches,
    _CGConv,
    gate_for,
)
from fairseq_cgc.core.errors import UserError

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=nn.Module)

_GATED: dict[type[nn.Module], type[_CGConv]] = {
    nn.Conv1d: CGConv1d,
    nn.Conv2d: CGConv2d,
    nn.Conv3d: CGConv3d,
}


def convert_to_cgc(
    model: Model,
    only: Sequence[str] | Callable[[str, nn.Module], bool] | None = None,
    **switches: Unpack[GateSwitches],
) -> tuple[Model, list[str]]:
    """Add a context gate to the spatial convolutions of a model, in place.

    Each becomes a :class:`CGConv2d` (or 1-D, 3-D) and stays the same object with the same
    parameters, hooks, device, dtype and mode, so that optimisers and tied weights go on; an
    optimiser has to be told of the gates' new parameters. A new gate lets about half of every
    weight through: a trained model has to be trained on.

    Pointwise convolutions stay as they are, and so do classes other than ``nn.ConvNd``
    themselves, which the log names: their forward pass may be another.

    Args:
        model: any model; a convolution itself as well.
        only: names of modules within which to convert, such as ``("layer1", "layer2", "layer3")``
            for res1 to res3 (Table 3), or a function of name and convolution that says whether.
            Everywhere by default.
        switches: of :class:`ContextGate`, for all of them.

    Returns:
        The model, and the names of the convolutions that have a gate now.

    Raises:
        UserError: if there is nothing to convert, in all or for one of the names in ``only``.
    """
    found: dict[str, _ConvNd] = {}
    unknown: list[str] = []
    names = [only] if isinstance(only, str) else only
    for name, module in model.named_modules():
        if not isinstance(module, _ConvNd) or isinstance(module, _CGConv):
            continue
        if callable(names):
            chosen = names(name, module)
        else:
            chosen = names is None or any(_is_within(name, part) for part in names)
        if not chosen:
            continue
        if type(module) not in _GATED:
            unknown.append(f"{name} ({type(module).__name__})")
        elif prod(module.kernel_size) > 1:
            found[name] = module
    for part in names if isinstance(names, Sequence) else ():
        if not any(_is_within(name, part) for name in found):
            raise UserError(f"only has {part!r}, but no convolution to convert has such a name")
    if not found:
        raise UserError("the model has no convolution to convert: no kernel is larger than 1")
    gates = [gate_for(module, **switches) for module in found.values()]
    for module, gate in zip(found.values(), gates, strict=True):
        # The object stays, and with it whatever refers to it: only its class changes.
        module.__class__ = _GATED[type(module)]
        module.gate = gate
    if unknown:
        logger.warning("no context gate for classes that are not torch's own: %s", unknown)
    logger.info("context gates for %d convolutions: %s", len(found), ", ".join(found))
    return model, list(found)


def _is_within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")
