"""Draw what context is worth to a translation model, layer by layer."""

from __future__ import annotations

from pathlib import Path

from fairseq_cgc.analysis.context import ALL, ContextWorth
from fairseq_cgc.analysis.gates import layer_label
from fairseq_cgc.support.figures import COLUMN, MARKERS, add_legend, drawing, fitted

_WORDS = {
    "mean": "mean gates of all sentences",
    "same length": "gates of a sentence of equal length",
}


def draw_context(found: ContextWorth, output: Path) -> None:
    """Draw how the loss rises with other gates: a row for a layer, a colour for a replacement.

    Args:
        found: of :func:`fairseq_cgc.analysis.context.measure_context`.
        output: file to write.
    """
    rows = list(next(iter(found.increases.values())))
    with drawing(output, COLUMN, 0.9 + 0.2 * len(rows)) as figure:
        axis = figure.subplots()
        handles = []
        for number, increases in enumerate(found.increases.values()):
            places = [row + 0.24 * (number - 0.5) for row in range(len(rows))]
            means, errors = zip(*(increases[row] for row in rows), strict=True)
            handles.append(
                axis.errorbar(means, places, xerr=errors, fmt=MARKERS[number], capsize=2)
            )
        axis.axvline(0, color="0.3", linewidth=0.6)
        words = [
            "all layers" if row == ALL else layer_label(row, found.kernel_sizes[row])
            for row in rows
        ]
        axis.set_yticks(range(len(rows)), [fitted(figure, word, 1.4) for word in words])
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.grid(axis="x")
        axis.set_xlabel("increase of the loss (bits per subword)")
        names = [_WORDS[kind] for kind in found.increases]
        add_legend(figure, handles, names, loc="outside upper center", ncols=1)
