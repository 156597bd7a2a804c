"""Adding context gates to the convolutions of an existing model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TypeVar, Unpack

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.parametrize import is_parametrized

from fairseq_cgc.core.convolution import (
    CGConv1d,
    CGConv2d,
    CGConv3d,
    GateSwitches,
    _CGConv,
    gate_for,
)
from fairseq_cgc.support.errors import UserError

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=nn.Module)

_GATED: dict[type[nn.Module], type[_CGConv]] = {
    nn.Conv1d: CGConv1d,
    nn.Conv2d: CGConv2d,
    nn.Conv3d: CGConv3d,
}

# Wrappers that synchronise copies of a model's parameters, by class name: importing them would take
# seconds, and not every build of torch has them. The suffixes match those of fairseq, fairscale and
# apex too.
_SYNCHRONISED = ("DistributedDataParallel", "ShardedDataParallel")
_SYNCHRONISED_BASES = {"FSDPModule", "ReplicateModule", "DDP", "DeepSpeedEngine"}

_POINTWISE = "kernels of 1, which have no gate"
_GATED_ALREADY = "gated already"


def convert_to_cgc(
    model: Model,
    only: Sequence[str] | Callable[[str, nn.Module], bool] | None = None,
    **switches: Unpack[GateSwitches],
) -> tuple[Model, list[str]]:
    """Add a context gate to the spatial convolutions of a model, in place.

    Each becomes a :class:`CGConv2d` (or 1-D, 3-D) and stays the same object with the same
    parameters, hooks, device, dtype and mode, so optimisers, tied weights, pruning and modules
    with several names keep working; an optimiser must be told of the gates' new parameters.
    A new gate lets about half of every weight through, so a trained model needs further training.

    Convert a model before it is wrapped for distributed training, compiled by ``torch.jit``,
    parametrised (``torch.nn.utils.parametrizations``) or quantised. A wrapper is refused, but it
    cannot be seen from inside: given ``ddp.module``, this function adds gates whose gradients are
    never synchronised.

    Pointwise convolutions and all classes but ``nn.ConvNd`` themselves stay as they are; the log
    names the latter with the reason.

    Args:
        model: any model, or a convolution.
        only: names of modules within which to convert, such as ``("layer1", "layer2", "layer3")``
            for res1 to res3 (Table 3), or a predicate of name and convolution. Everywhere by
            default. A shared module matches by any of its names.
        switches: of :class:`ContextGate`, for all gates.

    Returns:
        The model, and the names of the convolutions that now have a gate; a shared one appears
        once, under the first of its names within ``only``.

    Raises:
        UserError: if there is nothing to convert, at all or within one of the names in ``only``
            (the message says what was found instead), or if the model is or holds a distributed
            wrapper.
    """
    _refuse_wrappers(model)
    names = [only] if isinstance(only, str) else only
    unused = dict.fromkeys(names) if isinstance(names, Sequence) else {}
    found: dict[_ConvNd, str] = {}
    plain: dict[str, tuple[nn.Module, str]] = {}  # those that stay as they are, and why
    for name, module in model.named_modules(remove_duplicate=False):
        if not _is_convolution(module):
            continue
        if callable(names):
            chosen = names(name, module)
        else:
            chosen = names is None or any(_is_within(name, part) for part in names)
        if not chosen:
            continue
        reason = _why_plain(module)
        if reason is not None:
            plain[name] = module, reason
            continue
        assert isinstance(module, _ConvNd)
        found.setdefault(module, name)
        unused = {part: None for part in unused if not _is_within(name, part)}
    for part in unused:
        seen = _list_plain({name: why for name, why in plain.items() if _is_within(name, part)})
        raise UserError(
            f"only has {part!r}, but no convolution to convert: "
            f"{seen or 'there is no convolution of such a name'}"
        )
    if not found:
        nothing = "it has none" if only is None else "only chooses none"
        raise UserError(f"the model has no convolution to convert: {_list_plain(plain) or nothing}")
    gates = [gate_for(module, **switches) for module in found]
    for module, gate in zip(found, gates, strict=True):
        # As torch does to parametrise a module or to materialise a lazy one: whatever refers to the
        # object stays valid, hooks that hold a weak reference to it included.
        module.__class__ = _GATED[type(module)]
        module.gate = gate
    expected = (_POINTWISE, _GATED_ALREADY)
    unknown = {name: why for name, why in plain.items() if why[1] not in expected}
    if unknown:
        logger.warning("no context gate for %s", _list_plain(unknown))
    logger.info("context gates for %d convolutions: %s", len(found), ", ".join(found.values()))
    return model, list(found.values())


def _refuse_wrappers(model: nn.Module) -> None:
    """Refuse a model whose wrapper would not know of the gates' parameters."""
    for name, module in model.named_modules():
        where = f" (at {name!r})" if name else ""
        for base in type(module).__mro__:
            if base.__name__ in _SYNCHRONISED_BASES or base.__name__.endswith(_SYNCHRONISED):
                raise UserError(
                    f"the model is wrapped in {base.__name__}{where}, which would not synchronise "
                    "the gates: convert it before it is wrapped"
                )
        for parameter in module.parameters(recurse=False):
            if hasattr(parameter, "device_mesh"):  # a DTensor
                raise UserError(
                    f"the model's parameters are distributed{where}, as those of the gates would "
                    "not be: convert it before it is distributed"
                )


def _is_convolution(module: nn.Module) -> bool:
    """Whether a user would call it one: torch's own, compiled, quantised or third-party."""
    if isinstance(module, torch.jit.ScriptModule):
        return "Conv" in module.original_name and next(module.children(), None) is None
    if isinstance(module, _ConvNd):
        return True
    # A block may have "Conv" in its name, but no kernel_size; an adapter may have one, but it holds
    # the actual convolution.
    named_so = "Conv" in type(module).__name__ and hasattr(module, "kernel_size")
    return named_so and not any(isinstance(part, _ConvNd) for part in module.modules())


def _why_plain(module: nn.Module) -> str | None:
    """Why a convolution gets no gate; ``None`` if it gets one."""
    if isinstance(module, _CGConv):
        return _GATED_ALREADY
    if isinstance(module, _ConvNd) and prod(module.kernel_size) == 1:
        return _POINTWISE
    if isinstance(module, torch.jit.ScriptModule):
        return "compiled by torch.jit: convert the model before that"
    if isinstance(module, _ConvNd) and module.transposed:
        return "transposed, for which no gate is defined"
    if is_parametrized(module):
        return "parametrised: convert the model first, then parametrise"
    if isinstance(module, LazyModuleMixin):
        return "lazy: run the model once before the conversion"
    if type(module).__module__.startswith("torch.ao."):
        return "quantised: convert the model before that"
    if type(module) not in _GATED:
        return "a class of its own, whose forward pass may be another"
    assert isinstance(module, _ConvNd)
    return "complex weights" if module.weight.is_complex() else None


def _list_plain(plain: Mapping[str, tuple[nn.Module, str]]) -> str:
    """The convolutions that stay as they are, listed by reason; empty if there are none."""
    by_reason: dict[str, list[str]] = {}
    for name, (module, reason) in plain.items():
        kind = getattr(module, "original_name", type(module).__name__)
        by_reason.setdefault(reason, []).append(f"{name} ({kind})" if name else kind)
    parts = []
    for reason, those in by_reason.items():
        more = f" and {len(those) - 3} more" if len(those) > 3 else ""
        parts.append(f"{', '.join(those[:3])}{more}: {reason}")
    return "; ".join(parts)


def _is_within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")
