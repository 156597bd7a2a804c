"""The picture of :class:`~fairseq_cgc.analysis.class_distances.ClassDistances`."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import torch

from fairseq_cgc.analysis.class_distances import ClassDistances
from fairseq_cgc.support.figures import as_written, new_figure, save_figure

_NAMED = 20  # classes that can have their names at an axis, and a kernel of their own


def draw_distances(distances: ClassDistances, title: str, output: Path) -> None:
    """Draw inter-class minus intra-class distances and, of 2-D kernels of few classes, the means.

    Args:
        distances: to draw.
        title: above all.
        output: PNG file to write.

    Raises:
        UserError: if matplotlib is missing.
    """
    number = len(distances.classes)
    with_kernels = number <= _NAMED and distances.tap_strength.dim() == 3
    figure = new_figure(11.5 if with_kernels else 6.5, 5.8)
    figure.suptitle(title, fontsize=10)
    if with_kernels:
        left, right = figure.subfigures(1, 2, width_ratios=(7, 4))
        _kernels(right, distances)
    else:
        left = figure
    _matrix(left, distances)
    save_figure(figure, output)


def _matrix(figure: Any, distances: ClassDistances) -> None:
    number = len(distances.classes)
    values = distances.difference.clone().fill_diagonal_(torch.nan)  # a class is no pair
    largest = values.nan_to_num().abs().max().item() or 1.0
    axis = figure.subplots()
    axis.set_facecolor("0.75")
    image = axis.imshow(values.numpy(), cmap="RdBu", vmin=-largest, vmax=largest)
    axis.set_title(
        f"distance of two classes' mean kernels minus\nmean distance within the row's class: "
        f"positive in {distances.percentage:.2f}% of pairs",
        fontsize=9,
    )
    axis.set_xlabel("class")
    axis.set_ylabel("class whose own distance is subtracted")
    if number <= _NAMED:
        names = [_short(name) for name in distances.classes]
        long = max(map(len, distances.classes)) > 2
        axis.set_xticks(range(number), names, rotation=45 if long else 0, fontsize=8)
        axis.set_yticks(range(number), names, fontsize=8)
        if number <= 12:
            for row in range(number):
                for column in range(number):
                    value = values[row, column].item()
                    if row != column:
                        colour = "white" if abs(value) > 0.6 * largest else "black"
                        axis.text(
                            column, row, f"{value:.2g}", ha="center", va="center",
                            fontsize=6, color=colour,
                        )  # fmt: skip
    figure.colorbar(image, ax=axis, label="L2 distance (units of the weights)", shrink=0.8)


def _kernels(figure: Any, distances: ClassDistances) -> None:
    strength = distances.tap_strength
    change = 100 * (strength / strength.mean(0) - 1)
    largest = change.abs().max().item() or 1.0
    columns = ceil(len(strength) ** 0.5)
    rows = ceil(len(strength) / columns)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, name, values in zip(axes.flat, distances.classes, change, strict=False):
        image = axis.imshow(values.numpy(), cmap="PuOr_r", vmin=-largest, vmax=largest)
        axis.set_title(_short(name), fontsize=8)
    figure.suptitle(
        "mean kernel of each class: mean absolute weight\nat each position of the kernel",
        fontsize=9,
    )
    figure.colorbar(
        image,
        ax=axes,
        label="difference from the mean over the classes (%)",
        orientation="horizontal",
        shrink=0.8,
        aspect=40,
    )


def _short(name: str) -> str:
    return as_written(name if len(name) <= 14 else f"{name[:13]}…")
