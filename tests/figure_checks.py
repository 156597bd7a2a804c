"""What every figure must be: labels inside, none over another, none too small, words as given."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

#: Names that users give to runs, classes and files.
HOSTILE = (
    *("$x_1$", "a $ b", r"$\frac$", r"\$5", "_run", "日本語", "عربي", r"a\b%", "", "x" * 300),
    *("caf\udce9", "two\nlines", "{0} <&>", "😀", "  ", "#1"),
)


def shown_texts(figure: Any) -> list[Any]:
    """The texts with anything in them that are drawn in a figure that has been written."""
    from matplotlib.text import Text

    hidden: set[Any] = set()
    for axes in figure.findobj(match=lambda artist: hasattr(artist, "xaxis")):
        for axis in (axes.xaxis, axes.yaxis):
            drawn = axis._update_ticks() if axes.axison and axis.get_visible() else []
            for tick in {*axis.majorTicks, *axis.minorTicks} - {*drawn}:
                hidden |= {tick.label1, tick.label2}
            if not axes.axison:
                hidden.add(axis.label)
    return [
        text
        for text in dict.fromkeys(figure.findobj(Text))
        if text.get_visible() and text.get_text().strip() and text not in hidden
    ]


def faults(figure: Any) -> Iterator[str]:
    """Every fault of a figure, in words."""
    texts = shown_texts(figure)
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in texts]
    whole = figure.bbox
    if round(whole.width / figure.dpi, 2) > 6.9:
        yield f"{whole.width / figure.dpi} inches wide"
    for text, box in zip(texts, boxes, strict=True):
        words = text.get_text()[:40]
        if text.get_fontsize() < 6:
            yield f"{words!r} has {text.get_fontsize()} points"
        if text.get_parse_math():
            yield f"{words!r} may be read as a formula"
        if box.x0 < -1 or box.y0 < -1 or box.x1 > whole.x1 + 1 or box.y1 > whole.y1 + 1:
            yield f"{words!r} lies outside: {box} in {whole}"
    for (one, a), (other, b) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        if min(width, height) > 2:  # of 300 dots per inch
            yield f"{one.get_text()[:40]!r} lies over {other.get_text()[:40]!r}"
