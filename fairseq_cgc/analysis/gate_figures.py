"""Draw the gates of a translation model, for one sentence or for whole corpora."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fairseq_cgc.analysis.gates import SentenceGates
from fairseq_cgc.analysis.projection import Projection, project
from fairseq_cgc.support.figures import (
    COLUMN,
    MARKERS,
    PAGE,
    SMALL,
    add_legend,
    drawing,
    fitted,
    label_panels,
)

#: A legend to the right of its axes, where it covers nothing.
_BESIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)}


def draw_gates(gates: Mapping[str, Tensor], output: Path) -> None:
    """Draw which taps of its kernels each head opens: a panel for a layer, a row for a head.

    Args:
        gates: a layer in words -> its gates for one sentence, H x K.
        output: file to write.
    """
    rows = [gate.shape[0] for gate in gates.values()]
    with drawing(output, COLUMN, 0.6 + sum(0.22 + 0.09 * heads for heads in rows)) as figure:
        axes = figure.subplots(len(gates), 1, squeeze=False, height_ratios=rows, sharex=True)[:, 0]
        reach = max(gate.shape[1] for gate in gates.values()) // 2
        for axis, gate in zip(axes, gates.values(), strict=True):
            heads, size = gate.shape
            edges = (-size / 2, size / 2, heads + 0.5, 0.5)
            image = axis.imshow(gate.numpy(), vmin=0, vmax=1, aspect="auto", extent=edges)
            # All layers share one scale, so that equal positions are below each other.
            axis.set_xlim(-reach - 0.5, reach + 0.5)
            axis.yaxis.get_major_locator().set_params(integer=True, nbins=4, min_n_ticks=1)
            axis.set_ylabel("head")
        axes[-1].xaxis.get_major_locator().set_params(integer=True)
        label_panels(axes, [fitted(figure, name, 2.3, 7) for name in gates])
        axes[-1].set_xlabel("position relative to the subword (before < 0)")
        figure.colorbar(image, ax=list(axes), label="gate (0: closed, 1: open)", aspect=30)


def draw_sentence_gates(
    found: SentenceGates, shares: dict[str, dict[str, float | None]], output: Path
) -> Projection:
    """Draw the gates along their first two principal components, and what explains them.

    Args:
        found: the gates of sentences.
        shares: from :func:`fairseq_cgc.analysis.gates.explained_shares`.
        output: file to write.

    Returns:
        The sentences as they were drawn.

    Raises:
        UserError: if there are fewer than three sentences.
    """
    projection = project(found.points())
    several = len(found.corpora) > 1
    of_bars = 0.6 + (0.4 if several else 0.2) * len(shares)
    with drawing(output, PAGE, 2.6 + (of_bars if several else 0)) as figure:
        if several:
            clouds = figure.add_gridspec(2, 2, height_ratios=(2.6, of_bars))
            axes = [figure.add_subplot(part) for part in (clouds[0], clouds[1], clouds[1, :])]
        else:
            axes = list(figure.subplots(1, 2, width_ratios=(1.1, 1)))
        titles = [f"{len(found.lengths)} sentences by length{_r2(shares['all']['length'])}"]
        _by_length(figure, axes[0], projection, found)
        if several:
            _by_corpus(figure, axes[1], projection, found)
            titles.append(f"by corpus{_r2(shares['all']['corpus'])}")
        for axis in axes[:-1]:
            one, two = (f"{100 * share:.0f}% of variance" for share in projection.shares)
            axis.set_xlabel(f"principal component 1 ({one})")
            axis.set_ylabel(f"principal component 2 ({two})")
            axis.grid()
        _bars(axes[-1], shares, [_words(figure, found, name) for name in shares])
        label_panels(axes, [*titles, "variance explained, by layer"])
    return projection


def _words(figure: Any, found: SentenceGates, layer: str) -> str:
    words = "all layers" if layer == "all" else found.labels.get(layer, layer)
    return fitted(figure, words, 1.6)


def _cloud(axis: Any, projection: Projection, order: Tensor | None = None, **options: Any) -> Any:
    points = projection.points if order is None else projection.points[order]
    size = max(0.5, min(6.0, 2000 / len(points)))
    # As pixels, because thousands of points would make a slow PDF.
    return axis.scatter(*points.T.numpy(), s=size, linewidths=0, rasterized=True, **options)


def _by_length(figure: Any, axis: Any, projection: Projection, found: SentenceGates) -> None:
    lengths = found.lengths.double()
    # A few very long sentences must not use up the range of colours.
    low, high = lengths.min().item(), lengths.quantile(0.99).item()
    points = _cloud(axis, projection, c=lengths.numpy(), vmin=low, vmax=high)
    figure.colorbar(points, ax=axis, label="source length (subwords)", extend="max")


def _by_corpus(figure: Any, axis: Any, projection: Projection, found: SentenceGates) -> None:
    from matplotlib.lines import Line2D

    # In random order, or the last corpus would cover the others.
    order = torch.randperm(len(found.corpus), generator=torch.Generator().manual_seed(0))
    _cloud(axis, projection, order, c=[f"C{int(number)}" for number in found.corpus[order]])
    handles = [
        Line2D([], [], linestyle="", marker=MARKERS[0], color=f"C{number}")
        for number in range(len(found.corpora))
    ]
    names = [fitted(figure, name, 0.7, 6.5) for name in found.corpora]
    add_legend(axis, handles, names, **_BESIDE)


def _bars(axis: Any, shares: dict[str, dict[str, float | None]], labels: list[str]) -> None:
    """Draw a group of bars for each layer, the first layer on top."""
    from matplotlib.patches import Patch

    kinds = [k for k in next(iter(shares.values())) if shares["all"][k] is not None]
    height = 0.8 / max(1, len(kinds))
    for number, kind in enumerate(kinds):
        places = [row + (number - (len(kinds) - 1) / 2) * height for row in range(len(shares))]
        values = [of_layer[kind] or 0.0 for of_layer in shares.values()]
        axis.barh(places, values, height=height, color=f"C{number + 2}")
        for place, value in zip(places, values, strict=True):
            axis.annotate(
                f"{value:.3f}", (max(value, 0), place), (2, 0), textcoords="offset points",
                va="center", fontsize=SMALL,
            )  # fmt: skip
    axis.set_yticks(range(len(shares)), labels)
    axis.invert_yaxis()
    axis.set_xlabel("adjusted R² of the gates (1: fully explained)")
    axis.set_xlim(right=1.15)  # room for the numbers
    axis.grid(axis="x")
    if len(kinds) > 1:
        handles = [Patch(color=f"C{number + 2}") for number in range(len(kinds))]
        add_legend(axis, handles, kinds, **_BESIDE)


def _r2(value: float | None) -> str:
    return "" if value is None else f" (R² = {value:.2f})"
