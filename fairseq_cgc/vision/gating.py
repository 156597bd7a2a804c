"""Which convolutions of a model are gated, and how: the switches of ``create_model``'s ``cgc``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from fairseq_cgc.core import CGConv2d, UserError
from fairseq_cgc.core.convolution import GateSwitches
from fairseq_cgc.vision.resnet import Convolution

GATE_SWITCHES = tuple(GateSwitches.__annotations__)
"""Handed to every ``CGConv2d``; see ``fairseq_cgc.core.ContextGate``."""
SWITCHES = (*GATE_SWITCHES, "grid_scale", "stages")


def _is_number(value: object) -> bool:
    return type(value) is int and value >= 1


def _is_list(value: object, fits: Callable[[object], bool]) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(fits, value))


_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "latent_size": (lambda v: v is None or _is_number(v), "a whole number from 1 on"),
    "channels_per_group": (
        lambda v: v is None or _is_number(v),
        "a whole number from 1 on, or null: one group",
    ),
    "grid_size": (
        lambda v: v is None or _is_list(v, _is_number) and len(v) == 2,
        "two whole numbers from 1 on, as in [3, 3]",
    ),
    "grid_scale": (_is_number, "a whole number from 1 on"),
    "stages": (
        lambda v: isinstance(v, str) or _is_list(v, lambda stage: isinstance(stage, str)),
        "the name of a stage, or a list of some",
    ),
    **{
        name: (lambda v: isinstance(v, bool), "true or false")
        for name in ("shared_norm", "shared_encoder", "shared_decoder")
    },
}
"""For each switch that takes no word: whether a value fits, and what is allowed."""


def gated_convolutions(
    switches: Mapping[str, Any], stages: Sequence[str]
) -> Callable[[str], Convolution]:
    """For each stage of a model, what makes its spatial convolutions.

    Args:
        switches: of ``GATE_SWITCHES``; ``grid_scale``, the pooled grid as a multiple of each
            kernel's size (Table 3: h' = 2 k1, w' = 2 k2); ``stages``, those with gated
            convolutions, all by default.
        stages: those the model has.

    Raises:
        UserError: for an unknown switch or stage, or a value of the wrong type or size. (The
            words that a switch takes are checked by the gate.)
    """
    for name, value in switches.items():
        if name not in SWITCHES:
            raise UserError(f"cgc has no switch {name!r}; allowed are {', '.join(SWITCHES)}")
        fits, allowed = _VALUES.get(name, (lambda value: True, ""))
        if not fits(value):
            raise UserError(f"cgc {name} is {value!r}, but must be {allowed}")
    chosen = switches.get("stages", stages)
    chosen = (chosen,) if isinstance(chosen, str) else tuple(chosen)
    for stage in chosen:
        if stage not in stages:
            raise UserError(f"cgc stages has {stage!r}; allowed are {', '.join(stages)}")
    scale = switches.get("grid_scale", 1)
    gate = {name: value for name, value in switches.items() if name in GATE_SWITCHES}
    if scale != 1 and "grid_size" in gate:
        raise UserError("cgc has both grid_size and grid_scale; one of them says it all")

    def gated(in_channels: int, out_channels: int, kernel_size: int, **others: Any) -> nn.Conv2d:
        options = {**others, **gate}
        if scale != 1:
            options["grid_size"] = (scale * kernel_size,) * 2
        return CGConv2d(in_channels, out_channels, kernel_size, **options)

    return lambda stage: gated if stage in chosen else nn.Conv2d
