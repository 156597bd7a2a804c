"""Parameters and multiply-adds of the image models, beside the paper's (tables 1, 3 and 7)."""

from __future__ import annotations

import functools
import itertools
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fairseq_cgc.core import ContextGate
from fairseq_cgc.support import tables as tables_
from fairseq_cgc.vision.registry import SUFFIX, architecture, create_model, list_models


@dataclass(frozen=True)
class Cost:
    """Of one model and one image or clip."""

    parameters: int
    multiply_adds: int
    """Of convolutions and matrix products."""
    gated_weights: int
    """Weights that are multiplied by a gate, one product each."""


def cost(name: str, *, cgc: Mapping[str, Any] | None = None) -> Cost:
    """Count a model of :func:`create_model` with its usual number of classes and image size."""
    side = architecture(name).image_size
    # The meta device computes nothing, but its overhead exceeds the computation of small images.
    device = "meta" if side > 64 else "cpu"
    return count(partial(create_model, name, cgc=cgc), (3, side, side), device)


def count(make: Callable[[], nn.Module], shape: Sequence[int], device: str = "meta") -> Cost:
    """Count the model that ``make`` builds for one input, of ``shape`` without the batch."""
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
    """Operations of our convolution, whose inside torch does not see."""
    return 2 * prod(out_shape) * prod(weight_shape[1:])


@dataclass(frozen=True)
class Published:
    """One row of ``published.yaml``; ``None`` where the paper gives no number."""

    model: str
    parameters: float | None = None
    multiply_adds: float | None = None
    label: str = ""
    """Other words than the model's name, such as the paper's in Table 3."""
    cgc: Mapping[str, Any] = field(default_factory=dict)
    backbone: str = "resnet50"
    frames: int = 1
    note: str = ""


def read_published(path: Path) -> dict[str, list[Published]]:
    """The paper's tables, by title."""
    tables = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {title: [Published(**row) for row in rows] for title, rows in tables.items()}


PUBLISHED = read_published(Path(__file__).with_name("published.yaml"))
MODELS, TABLE_3A, TABLE_3B = PUBLISHED.values()

HEADINGS = ("parameters", "paper", "multiply-adds", "increment", "paper", "gate products")
EXPLANATION = """\
Numbers are millions. Multiply-adds are those of convolutions and matrix products for one image
(224 x 224, CIFAR models 32 x 32), increments those over the plain ResNet; of a plain ResNet the
paper gives the total. The paper's increments of CGC could not be reproduced from its own
complexity formula (section 3.2), neither with the products of kernel and gate, one for each gated
weight and image, nor without; those products are in the last column.
"""


def lines(names: Sequence[str] = (), *, markdown: bool = False) -> Iterator[str]:
    """All tables, line by line as the numbers are counted.

    Args:
        names: these models only, in one table; all models and Table 3 if there are none.
        markdown: Markdown instead of aligned columns.

    Raises:
        UserError: if one of ``names`` is no model.
    """
    tables = select(names or list_models(), PUBLISHED, _unpublished, only=bool(names))
    yield from render(tables, HEADINGS, _cells, EXPLANATION, markdown=markdown)


def select(
    names: Sequence[str],
    published: dict[str, list[Published]],
    unpublished: Callable[[str], Published],
    *,
    only: bool,
) -> dict[str, list[Published]]:
    """One table of the named models (``only``), or the paper's tables and one of other models.

    ``unpublished`` makes the row of a model that the paper does not have.
    """
    known = next(iter(published.values()))
    if only:
        found = ([row for row in known if row.model == n] or [unpublished(n)] for n in names)
        return {"Models": [row for rows in found for row in rows]}
    others = [unpublished(n) for n in names if all(row.model != n for row in known)]
    return {**published, "Models that the paper does not have": others}


def render(
    tables: dict[str, list[Published]],
    headings: Sequence[str],
    cells: Callable[[Published], Sequence[str]],
    explanation: str,
    *,
    markdown: bool,
) -> Iterator[str]:
    """Tables with their notes, line by line, and an explanation at the end.

    ``headings`` are those of the columns after the name, ``cells`` gives a row's cells there.
    """
    for title, rows in tables.items():
        yield from (f"### {title}" if markdown else title, "")
        head = ("", *headings)
        body = ((row.label or row.model, *cells(row)) for row in rows)  # counted line by line
        if markdown:
            yield from tables_.markdown(head, body)
        else:
            widths = (max(20, *(len(row.label) for row in rows)), *map(len, headings))
            align = "l" + "r" * len(headings)
            yield from tables_.text(itertools.chain([head], body), align, widths)
        yield ""
        for row in rows:
            if row.note:
                yield from (*textwrap.wrap(f"{row.label or row.model}: {row.note}", 98), "")
    yield from (*textwrap.wrap(explanation, 98), "")


def number_cells(row: Published, counted: Cost, plain: Cost | None) -> list[str]:
    """Parameters and the paper's; multiply-adds, their increment and the paper's; gate products.

    The increment is over the ``plain`` model, ``None`` if the model is plain itself.
    """
    increment = plain and (counted.multiply_adds - plain.multiply_adds) / 1e6
    return [
        f"{counted.parameters / 1e6:.2f}",
        f"{row.parameters:.2f}" if row.parameters is not None else "",
        f"{counted.multiply_adds / 1e6:.1f}",
        f"{increment:.3f}" if increment is not None else "",
        f"{row.multiply_adds:g}" if row.multiply_adds is not None else "",
        f"{counted.gated_weights / 1e6:.2f}" if counted.gated_weights else "",
    ]


def _unpublished(name: str) -> Published:
    architecture(name)  # or an error
    return Published(name)


def _cells(row: Published) -> list[str]:
    plain = re.sub(r"^[a-z0-9]+_(?=resnet)", "", row.model).removesuffix(SUFFIX)
    counted = cost(row.model, cgc=row.cgc or None)
    return number_cells(row, counted, None if row.model == plain else _plain_cost(plain))


@functools.cache
def _plain_cost(name: str) -> Cost:
    return cost(name)
