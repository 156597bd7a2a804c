"""Which convolutions of a model are gated, and how: the switches of ``create_model``'s ``cgc``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from fairseq_cgc.core import CGConv2d, UserError
from fairseq_cgc.core.convolution import GateSwitches
from fairseq_cgc.support.options import Range
from fairseq_cgc.vision.network import Convolution

GATE_SWITCHES = tuple(GateSwitches.__annotations__)
"""Passed on to every ``CGConv2d``; see ``fairseq_cgc.core.ContextGate``."""
_LARGEST = 1024  # far more than a kernel has positions


def _is_size(value: object) -> bool:
    return type(value) is int and 1 <= value <= _LARGEST


def _is_list(value: object, fits: Callable[[object], bool]) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(fits, value))


_SIZE = f"a whole number from 1 to {_LARGEST}"
_FLAG = Range("true or false", lambda v: isinstance(v, bool))
_VALUES = {
    "latent_size": Range(_SIZE, lambda v: v is None or _is_size(v)),
    "channels_per_group": Range(f"{_SIZE}, or null: one group", lambda v: v is None or _is_size(v)),
    "grid_size": Range(
        f"two whole numbers from 1 to {_LARGEST}, as in [3, 3]",
        lambda v: v is None or (_is_list(v, _is_size) and len(v) == 2),
    ),
    "grid_scale": Range(_SIZE, _is_size),
    "stages": Range(
        "the name of a stage, or a list of some",
        lambda v: isinstance(v, str) or _is_list(v, lambda stage: isinstance(stage, str)),
    ),
    **dict.fromkeys(("shared_norm", "shared_encoder", "shared_decoder"), _FLAG),
}
"""The values of the switches that take no word; the gate checks the words."""


def gated_convolutions(
    switches: Mapping[str, Any], stages: Sequence[str]
) -> Callable[[str], Convolution]:
    """For each stage of a model, what makes its spatial convolutions.

    Args:
        switches: those of ``GATE_SWITCHES``; ``grid_scale``, the pooled grid as a multiple of each
            kernel's size (Table 3: h' = 2 k1, w' = 2 k2); ``stages``, which have gated
            convolutions (all by default).
        stages: those the model has.

    Raises:
        UserError: for an unknown switch or stage, or a value of the wrong type or size.
    """
    for name, value in switches.items():
        allowed = (*GATE_SWITCHES, "grid_scale", "stages")
        if name not in allowed:
            raise UserError(f"cgc has no switch {name!r}; allowed are {', '.join(allowed)}")
        if name in _VALUES and not _VALUES[name].holds(value):
            raise UserError(f"cgc {name} is {value!r}, but must be {_VALUES[name].allowed}")
    chosen = switches.get("stages", stages)
    chosen = (chosen,) if isinstance(chosen, str) else tuple(chosen)
    for stage in chosen:
        if stage not in stages:
            raise UserError(f"cgc stages has {stage!r}; allowed are {', '.join(stages)}")
    scale = switches.get("grid_scale", 1)
    gate = {name: value for name, value in switches.items() if name in GATE_SWITCHES}
    if scale != 1 and "grid_size" in gate:
        raise UserError("cgc has both grid_size and grid_scale, but only one of them is allowed")

    def gated(in_channels: int, out_channels: int, kernel_size: int, **others: Any) -> nn.Conv2d:
        options = {**others, **gate}
        if scale != 1:
            options["grid_size"] = (scale * kernel_size,) * 2
        return CGConv2d(in_channels, out_channels, kernel_size, **options)

    return lambda stage: gated if stage in chosen else nn.Conv2d
