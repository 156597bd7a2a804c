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
        UserError: for an unknown switch or stage, or a wrong scale.
    """
    for name in switches:
        if name not in SWITCHES:
            raise UserError(f"cgc has no switch {name!r}; allowed are {', '.join(SWITCHES)}")
    chosen = switches.get("stages", stages)
    chosen = (chosen,) if isinstance(chosen, str) else tuple(chosen)
    for stage in chosen:
        if stage not in stages:
            raise UserError(f"cgc stages has {stage!r}; allowed are {', '.join(stages)}")
    scale = switches.get("grid_scale", 1)
    if not isinstance(scale, int) or scale < 1:
        raise UserError(f"cgc grid_scale is {scale!r}, but must be a whole number from 1 on")
    gate = {name: value for name, value in switches.items() if name in GATE_SWITCHES}
    if scale != 1 and "grid_size" in gate:
        raise UserError("cgc has both grid_size and grid_scale; one of them says it all")

    def gated(in_channels: int, out_channels: int, kernel_size: int, **others: Any) -> nn.Conv2d:
        options = {**others, **gate}
        if scale != 1:
            options["grid_size"] = (scale * kernel_size,) * 2
        return CGConv2d(in_channels, out_channels, kernel_size, **options)

    return lambda stage: gated if stage in chosen else nn.Conv2d
