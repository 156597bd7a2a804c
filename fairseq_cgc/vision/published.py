"""What the paper says its image models cost: Lin et al., tables 1, 3 and 7."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Published:
    """One row; ``None`` where the paper gives no number.

    Attributes:
        model: the name here.
        parameters: in millions.
        multiply_adds: in millions; of a gated or extended model the increment over its
            plain ResNet.
        label: the paper's words, in Table 3.
        cgc: the switches that make it, in Table 3.
        note: why our count differs.
    """

    model: str
    parameters: float | None = None
    multiply_adds: float | None = None
    label: str = ""
    cgc: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


MODELS = [
    Published("resnet50", 25.56, 4000),
    Published("resnet50_cgc", 25.59, 6),
    Published("resnet101", 44.55, 8000),
    Published("resnet101_cgc", 44.61, 12),
    Published(
        "se_resnet50",
        28.09,
        8,
        note="averaging over positions adds up 5.5M values, and 2.5 + 5.5 is the paper's 8.",
    ),
    Published(
        "cbam_resnet50",
        28.09,
        15,
        note="its multi-layer perceptron runs twice, on means and on maxima (2.5M each). Counted "
        "once and with 5.5M values pooled twice, it would be the paper's 15.",
    ),
    Published("cbam_resnet50_cgc", 28.12, 21),
    Published("bam_resnet50", 25.92, 83),
    Published(
        "gc_resnet50",
        28.11,
        8,
        note="28.11M is what the paper trained itself; 28.08M and 100M multiply-adds are quoted "
        "from GCNet's paper. Without the weighted sum over positions (5.5M) ours is the paper's 8.",
    ),
    Published("glore_resnet50", 30.5, 1200),
    Published(
        "dcnv2_resnet50",
        27.4,
        200,
        note="the offsets and modulations of 13 layers (27 maps each, res2 to res4) take 0.87M "
        "parameters, and about the paper's multiply-adds; 1.84M would need about twice the maps. "
        "The interpolation is not counted.",
    ),
    Published("resnet110_cifar", 1.73, 256),
    Published("resnet110_cifar_cgc", 1.80, 2),
]

TABLE_3A = [
    Published("resnet110_cifar_cgc", *row)
    for row in (
        (1.80, 1.681, "ResNet-110 + CGC"),
        (1.75, 1.447, "only G1", {"branches": "in"}),
        (1.78, 1.472, "only G2", {"branches": "out"}),
        (1.80, 1.681, "G1 * G2", {"combine": "product"}),
        (1.96, 1.681, "g = 1", {"channels_per_group": None}),
        (1.81, 1.741, "d = k1 x k2", {"latent_size": 9}),
        (1.79, 1.681, "Shared Norm", {"shared_norm": True}),
        (1.80, 1.871, "Two Es", {"shared_encoder": False}),
        (1.79, 1.681, "Shared D", {"shared_decoder": True}),
        (1.81, 1.681, "h' = 2 k1, w' = 2 k2", {"grid_scale": 2}),
        (1.80, 1.681, "MaxPool", {"pool": "max"}),
        (1.80, 1.678, "(res1,2,3)", {"stages": ("res1", "res2", "res3")}),
        (1.78, 1.052, "(res2,3)", {"stages": ("res2", "res3")}),
        (1.76, 0.622, "(res3)", {"stages": ("res3",)}),
    )
]

TABLE_3B = [
    Published("resnet50_cgc", label=label, cgc=cgc)
    for label, cgc in (
        ("ResNet-50 + CGC", {}),
        ("Shared Norm", {"shared_norm": True}),
        ("Shared D", {"shared_decoder": True}),
        ("h' = 2 k1, w' = 2 k2", {"grid_scale": 2}),
    )
]
