"""Tables as Markdown and as aligned text.

Rows are taken and written one by one unless the columns are aligned, so that a command shows each
row as soon as it is computed (tabulate would need the whole table).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

_PAD = {"l": str.ljust, "r": str.rjust}


def markdown(
    head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "", *, aligned: bool = False
) -> Iterator[str]:
    """A Markdown table, line by line.

    Args:
        head: names of the columns.
        rows: of cells.
        align: ``l`` or ``r`` for each column; by default, all but the first to the right.
        aligned: pad the cells, so that the source reads well.
    """
    align = align or "l" + "r" * (len(head) - 1)
    widths = [0] * len(head)
    if aligned:
        rows = list(rows)
        widths = _widths([head, *rows])
    yield _line(head, align, widths)
    ends = ("-" if a == "l" else ":" for a in align)
    yield f"|{'|'.join('-' * max(w + 1, 2) + end for w, end in zip(widths, ends, strict=True))}|"
    for row in rows:
        yield _line(row, align, widths)


def text(
    rows: Iterable[Sequence[str]], align: str, widths: Sequence[int] | None = None
) -> Iterator[str]:
    """Columns two spaces apart, line by line; without ``widths``, as wide as their widest cell."""
    if widths is None:
        rows = list(rows)
        widths = _widths(rows)
    for row in rows:
        yield "  ".join(_pad(row, align, widths)).rstrip()


def _line(row: Sequence[str], align: str, widths: Sequence[int]) -> str:
    return f"| {' | '.join(_pad(row, align, widths))} |"


def _pad(row: Sequence[str], align: str, widths: Sequence[int]) -> list[str]:
    return [_PAD[a](cell, width) for cell, a, width in zip(row, align, widths, strict=True)]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]
