"""Draw how well modulated kernels separate classes (Fig. 5), and the classes' mean kernels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from math import ceil
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_cgc.analysis.class_distances import ClassDistances
from fairseq_cgc.support.figures import (
    COLUMN,
    PAGE,
    SMALL,
    drawing,
    fitted,
    label_panels,
    text_width,
)

_MAX_NAMED = 20  # With more classes, names and kernels of single classes would be illegible.
_MATRIX = 2.0  # inches: about the side of a matrix


def draw_distances(models: Sequence[tuple[str, ClassDistances]], output: Path) -> None:
    """Draw the differences of distances and, for few classes, the mean kernels.

    Args:
        models: names of models, and the distances of their kernels; a row for each model.
        output: file to write.
    """
    with_kernels = [
        len(found.classes) <= _MAX_NAMED and found.tap_strength.dim() > 2 for _, found in models
    ]
    width = PAGE if any(with_kernels) else COLUMN
    with drawing(output, width, 3.0 * len(models)) as figure:
        parts = figure.subfigures(len(models), 1, squeeze=False)[:, 0]
        panels: list[Any] = []
        titles: list[str] = []
        for part, (name, found), has_kernels in zip(parts, models, with_kernels, strict=True):
            halves = part.subfigures(1, 2, width_ratios=(6, 5)) if has_kernels else [part]
            _matrix(halves[0], found)
            words = f"{fitted(figure, name, 1.2, 7)}: " if len(models) > 1 else ""
            titles.append(f"{words}positive in {found.percentage:.2f}% of pairs")
            if has_kernels:
                _kernels(halves[1], found)
                titles.append("mean kernel of each class")
            panels += list(halves)
        label_panels(panels, titles)


def _matrix(figure: Any, found: ClassDistances) -> None:
    number = len(found.classes)
    values = found.difference.clone().fill_diagonal_(torch.nan)  # not a pair
    largest = values.nan_to_num().abs().max().item() or 1.0
    axis = figure.subplots()
    axis.set_facecolor("0.75")
    image = axis.imshow(values.numpy(), cmap="RdBu", vmin=-largest, vmax=largest)
    axis.set_xlabel("other class")
    axis.set_ylabel("class whose own distance is subtracted")
    if number <= _MAX_NAMED:
        names = [fitted(figure, name, 0.7) for name in found.classes]
        upright = max(text_width(figure, name) for name in names) > _MATRIX / number - 0.02
        axis.set_xticks(range(number), names, rotation=90 if upright else 0)
        axis.set_yticks(range(number), names)
    _write_numbers(figure, axis, values, largest)
    figure.colorbar(
        image, ax=axis, label="distance between classes minus\nwithin the class (L2, weights' unit)"
    )


def _write_numbers(figure: Any, axis: Any, values: Tensor, largest: float) -> None:
    """Write the values into their cells, if these are wide enough."""
    number = len(values)
    texts = {
        (row, column): f"{values[row, column].item():.2g}"
        for row, column in permutations(range(number if number <= _MAX_NAMED else 0), 2)
    }
    widest = max((text_width(figure, text) for text in texts.values()), default=0)
    if widest > 0.9 * _MATRIX / number:
        return
    for (row, column), text in texts.items():
        dark = abs(values[row, column].item()) > 0.6 * largest
        axis.text(
            column, row, text, ha="center", va="center", fontsize=SMALL,
            color="white" if dark else "black",
        )  # fmt: skip


def _kernels(figure: Any, found: ClassDistances) -> None:
    """Draw the kernels of classes, those of clips with their frames in a row."""
    strength = found.tap_strength
    change = 100 * (strength / strength.mean(0) - 1)
    largest = change.abs().max().item() or 1.0
    in_time = change.dim() == 4
    columns = 1 if in_time else ceil(len(change) ** 0.5)
    rows = ceil(len(change) / columns)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    wide = 2.2 / columns
    for axis, name, values in zip(axes.flat, found.classes, change, strict=False):
        if in_time:  # with a column of nothing after every frame
            values = torch.cat(list(F.pad(values, (0, 1), value=torch.nan)), 1)[:, :-1]
        image = axis.imshow(values.numpy(), cmap="PuOr_r", vmin=-largest, vmax=largest)
        axis.set_axis_on()
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
        if in_time:
            axis.set_ylabel(
                fitted(figure, name, 0.7), rotation=0, ha="right", va="center", fontsize=SMALL
            )
        else:
            axis.set_xlabel(fitted(figure, name, wide), fontsize=SMALL, labelpad=1)
    label = "mean |weight|, difference from the mean\nover the classes (%)"
    figure.colorbar(image, ax=axes, label=label, orientation="horizontal", aspect=30)
