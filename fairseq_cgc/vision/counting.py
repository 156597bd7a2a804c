"""Parameters and multiply-adds of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from fairseq_cgc.core import CGConv2d
from fairseq_cgc.vision.registry import architecture, create_model


@dataclass(frozen=True)
class Cost:
    """Of one model and one image.

    Attributes:
        parameters: how many numbers are learnt.
        multiply_adds: of convolutions and matrix products.
        gated_weights: how many weights are multiplied by a gate, one product each.
    """

    parameters: int
    multiply_adds: int
    gated_weights: int


def cost(name: str, *, cgc: Mapping[str, Any] | None = None) -> Cost:
    """Count a model at its usual number of classes and image size.

    Args:
        name, cgc: as :func:`fairseq_cgc.vision.create_model` takes them.
    """
    side = architecture(name).image_size
    # The meta device knows shapes and computes nothing, which takes it longer than small
    # images take to compute.
    device = "meta" if side > 64 else "cpu"
    with torch.random.fork_rng(devices=[]), torch.device(device):
        model = create_model(name, cgc=cgc).eval()
        images = torch.zeros(1, 3, side, side)
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.fairseq_cgc.gated_convolution: _convolution}
    )
    with torch.no_grad(), counter:
        model(images)
    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        multiply_adds=counter.get_total_flops() // 2,  # torch counts both as operations
        gated_weights=sum(m.weight.numel() for m in model.modules() if isinstance(m, CGConv2d)),
    )


def _convolution(
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    *others: object,
    out_shape: Sequence[int],
    **kwargs: object,
) -> int:
    """Operations of a convolution, which torch cannot see inside ours."""
    return 2 * prod(out_shape) * prod(weight_shape[1:])
