"""Parameters and multiply-adds of the image models, beside the paper's (tables 1, 3 and 7)."""

from __future__ import annotations

import functools
import itertools
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fairseq_cgc.core import ContextGate
from fairseq_cgc.support import tables as tables_
from fairseq_cgc.vision.registry import SUFFIX, architecture, create_model, list_models


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


HEADINGS = ("parameters", "paper", "multiply-adds", "increment", "paper", "gate products")
EXPLANATION = """\
Numbers are millions. Multiply-adds are those of convolutions and matrix products for one image
(224 x 224, CIFAR models 32 x 32), increments those over the plain ResNet; of a plain ResNet the
paper gives the total. The paper's increments of CGC could not be reproduced from its own
complexity formula (section 3.2), be it with the products of kernel and gate, one for each gated
weight and image, or without; those products stand apart in the last column.
"""

Row = TypeVar("Row", bound=Published)


def lines(names: Sequence[str] = (), *, markdown: bool = False) -> Iterator[str]:
    """All tables, line by line as the numbers are counted.

    Args:
        names: these models only, in one table; all models and Table 3 if there are none.
        markdown: Markdown instead of aligned columns.

    Raises:
        UserError: if one of ``names`` is no model.
    """
    for name in names:
        architecture(name)
    known = {row.model: row for row in MODELS}
    if names:
        tables = [("Models", [known.get(name, Published(name)) for name in names])]
    else:
        others = [Published(name) for name in list_models() if name not in known]
        tables = [
            ("Models of tables 1 and 7", MODELS),
            ("Models that the paper does not have", others),
            ("Table 3a: variants of resnet110_cifar_cgc", TABLE_3A),
            ("Table 3b: variants of resnet50_cgc (accuracies only in the paper)", TABLE_3B),
        ]
    yield from render(tables, HEADINGS, _cells, EXPLANATION, markdown=markdown)


def render(
    tables: Sequence[tuple[str, Sequence[Row]]],
    headings: Sequence[str],
    cells: Callable[[Row], Sequence[str]],
    explanation: str,
    *,
    markdown: bool,
) -> Iterator[str]:
    """Tables with their notes, line by line.

    Args:
        tables: titles and rows.
        headings: of the columns behind the name.
        cells: what a row has in these columns.
        explanation: of the numbers, at the end.
        markdown: Markdown instead of aligned columns.
    """
    for title, rows in tables:
        yield from (f"### {title}" if markdown else title, "")
        head = ("", *headings)
        lines = ((row.label or row.model, *cells(row)) for row in rows)  # counted line by line
        if markdown:
            yield from tables_.markdown(head, lines)
        else:
            widths = (20, *map(len, headings))
            align = "l" + "r" * len(headings)
            yield from tables_.text(itertools.chain([head], lines), align, widths)
        yield ""
        for row in rows:
            if row.note:
                yield from _paragraph(f"{row.model}: {row.note}")
    yield from _paragraph(explanation)


def _cells(row: Published) -> tuple[str, ...]:
    counted = cost(row.model, cgc=row.cgc or None)
    plain = row.model[row.model.index("resnet") :].removesuffix(SUFFIX)
    increment = counted.multiply_adds - _plain_multiply_adds(plain)
    return (
        f"{counted.parameters / 1e6:.2f}",
        f"{row.parameters:.2f}" if row.parameters is not None else "",
        f"{counted.multiply_adds / 1e6:.1f}",
        f"{increment / 1e6:.3f}" if row.model != plain else "",
        f"{row.multiply_adds:g}" if row.multiply_adds is not None else "",
        f"{counted.gated_weights / 1e6:.2f}" if counted.gated_weights else "",
    )


@functools.cache
def _plain_multiply_adds(name: str) -> int:
    return cost(name).multiply_adds


def _paragraph(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, 98)
    yield ""
