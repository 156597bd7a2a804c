"""What the models cost, beside the paper's numbers, as the lines of tables."""

from __future__ import annotations

import argparse
import functools
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from fairseq_cgc.vision.counting import cost
from fairseq_cgc.vision.published import MODELS, TABLE_3A, TABLE_3B, Published
from fairseq_cgc.vision.registry import SUFFIX, architecture, list_models

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
    layout = _markdown if markdown else functools.partial(_aligned, headings)
    for title, rows in tables:
        yield from (f"### {title}" if markdown else title, "")
        yield layout("", headings)
        if markdown:
            yield "| --- |" + " ---: |" * len(headings)
        for row in rows:
            yield layout(row.label or row.model, cells(row))
        yield ""
        for row in rows:
            if row.note:
                yield from _paragraph(f"{row.model}: {row.note}")
    yield from _paragraph(explanation)


def run(prog: str, description: str, lines: Callable[..., Iterator[str]]) -> None:
    """The command that prints tables: names of models and ``--markdown`` to :func:`lines`."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("model", nargs="*", help="these models only (default: all of them)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    args = parser.parse_args()
    for line in lines(args.model, markdown=args.markdown):
        print(line, flush=True)


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


def _aligned(headings: Sequence[str], label: str, cells: Sequence[str]) -> str:
    widths = [len(heading) + 2 for heading in headings]
    return (
        f"{label:<22}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True)).rstrip()
    )


def _markdown(label: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join((label, *cells))} |"


def _paragraph(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, 98)
    yield ""
