"""Parameters and multiply-adds of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fairseq_cgc.core import ContextGate
from fairseq_cgc.vision.registry import architecture, create_model


@dataclass(frozen=True)
class Cost:
    """Of one model and one image, or one clip.

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
    return count(partial(create_model, name, cgc=cgc), (3, side, side), device)


def count(make: Callable[[], nn.Module], shape: Sequence[int], device: str = "meta") -> Cost:
    """Count a model for one input.

    Args:
        make: builds the model.
        shape: of the input, without the batch.
        device: on which it is built and run.
    """
    with torch.random.fork_rng(devices=[]), torch.device(device):
        model = make().eval()
        inputs = torch.zeros(1, *shape)
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.fairseq_cgc.gated_convolution: _convolution}
    )
    with torch.no_grad(), counter:
        model(inputs)
    gates = [module for module in model.modules() if isinstance(module, ContextGate)]
    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        multiply_adds=counter.get_total_flops() // 2,  # torch counts both as operations
        gated_weights=sum(g.out_channels * g.in_channels * prod(g.kernel_size) for g in gates),
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
