"""Draw heat maps over images, or over the frames of clips, of one model or of several (Fig. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fairseq_cgc.analysis.cam import HeatMaps
from fairseq_cgc.support.figures import PAGE, SMALL, drawing, fitted

_MAX_FRAMES = 8  # of a clip that are drawn
_LABEL = 1.1  # inches: the width of the rows' labels
_PAGE_HEIGHT = 8.0  # inches
_GAP = 0.1  # inches: between clips


@dataclass(frozen=True)
class Cell:
    """A picture, or a heat map over it.

    Attributes:
        picture: uint8, 1 or 3 x height x width.
        heat: H x W from 0 to 1.
        note: below.
    """

    picture: Tensor
    heat: Tensor | None = None
    note: str = ""


@dataclass(frozen=True)
class Shown:
    """What one model makes of the samples: its heat maps, and words for each sample."""

    name: str
    heat: HeatMaps
    notes: Sequence[str]


def draw_heat_maps(
    samples: Tensor, models: Sequence[Shown], labels: Sequence[str], output: Path
) -> None:
    """Draw samples with the heat maps of models laid over them.

    Images have a row each, with a column for each map; a clip has a row for each map, with up to
    eight of its frames.

    Args:
        samples: uint8, B x 1 or 3 x height x width, or clips, B x T x 1 or 3 x height x width.
        models: what they make of these samples; their names are drawn if there are several.
        labels: of the samples; lines are broken at line breaks.
        output: file to write.
    """
    if samples.dim() == 5:
        _draw_grid(*_rows_of_clips(samples, models, labels), [], output)
        return
    rows: list[list[Cell]] = []
    for row, picture in enumerate(samples):
        rows.append([Cell(picture)])
        for model in models:
            rows[-1] += [Cell(picture, maps[row]) for maps in model.heat.maps.values()]
            rows[-1][-1] = replace(rows[-1][-1], note=model.notes[row])
    titles = [f"image\n{_size(samples)}"]
    titles += [f"{key}\n{_size(maps)}" for model in models for key, maps in model.heat.maps.items()]
    groups = [(model.name, len(model.heat.maps)) for model in models] if len(models) > 1 else []
    _draw_grid(rows, labels, titles, groups, output)


def _size(maps: Tensor) -> str:
    return " × ".join(map(str, maps.shape[-2:]))


def _rows_of_clips(
    clips: Tensor, models: Sequence[Shown], labels: Sequence[str]
) -> tuple[list[list[Cell]], list[str], list[str]]:
    """The rows of all clips, their labels, and the titles of the columns."""
    length = clips.shape[1]
    chosen = torch.linspace(0, length - 1, min(length, _MAX_FRAMES)).round().long().tolist()
    rows: list[list[Cell]] = []
    row_labels: list[str] = []
    for number, (clip, label) in enumerate(zip(clips, labels, strict=True)):
        if rows:
            rows.append([])
            row_labels.append("")
        rows.append([Cell(clip[frame]) for frame in chosen])
        row_labels.append(label)
        for model in models:
            for key, maps in model.heat.maps.items():
                heat = maps[number]
                # A layer may see fewer frames than the clip has, each for several of them.
                rows.append([Cell(clip[f], heat[f * len(heat) // length]) for f in chosen])
                words = f"{key}, {' × '.join(map(str, heat.shape))}"
                row_labels.append(f"{model.name}\n{words}" if len(models) > 1 else words)
            row_labels[-1] += f"\n{model.notes[number]}"
    return rows, row_labels, [f"frame {frame + 1}" for frame in chosen]


def _draw_grid(
    rows: Sequence[Sequence[Cell]],
    labels: Sequence[str],
    titles: Sequence[str],
    groups: Sequence[tuple[str, int]],
    output: Path,
) -> None:
    """Draw rows of cells.

    Args:
        rows: of equally many cells; without any for a gap.
        labels: of the rows.
        titles: of the columns.
        groups: headings over the columns that follow the first, and how many they stand over.
        output: file to write.
    """
    columns = len(titles)
    height, width = rows[0][0].picture.shape[-2:]
    below = 0.2 if any(cell.note for row in rows for cell in row) else 0.06
    # As many rows as possible shall fit on a page.
    tallest = max(0.35, _PAGE_HEIGHT / len(rows) - below)
    side = min(1.0, (PAGE - _LABEL) / columns, tallest * width / height)
    tall = side * height / width + below
    ratios = [0.15 if groups else 0.01] + [tall if row else _GAP for row in rows]
    size = (max(2.8, _LABEL + side * columns), 0.75 + sum(ratios))
    with drawing(output, *size) as figure:
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
        grid = figure.add_gridspec(len(ratios), columns, height_ratios=ratios)
        axes: list[list[Any]] = []
        for number, (label, cells) in enumerate(zip(labels, rows, strict=True), start=1):
            axes.append([figure.add_subplot(grid[number, i]) for i in range(len(cells))])
            for axis, cell in zip(axes[-1], cells, strict=True):
                mapped = _draw_cell(axis, cell)
                if cell.note:
                    axis.set_xlabel(fitted(figure, cell.note, side), fontsize=SMALL, labelpad=2)
            if cells:
                lines = [fitted(figure, line, _LABEL - 0.1) for line in label.split("\n")]
                axes[-1][0].set_ylabel(
                    "\n".join(lines),
                    fontsize=SMALL,
                    rotation=0,
                    ha="right",
                    va="center",
                    labelpad=3,
                )
        pictures = figure.axes
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title, fontsize=SMALL, loc="center", pad=3)
        first = 1
        for name, number in groups:
            above = figure.add_subplot(grid[0, first : first + number])
            above.set_axis_off()
            words = fitted(figure, name, side * number, 7)
            above.text(0.5, 0.5, words, ha="center", va="center", transform=above.transAxes)
            first += number
        figure.colorbar(
            mapped, ax=pictures, label="Grad-CAM++ (1: the map's maximum)",
            orientation="horizontal", shrink=min(1.0, 2.5 / size[0]), aspect=40, pad=0.02,
        )  # fmt: skip


def _draw_cell(axis: Any, cell: Cell) -> Any:
    """Draw a picture, and return what a colour bar explains, if it has a heat map."""
    axis.set_xticks([])
    axis.set_yticks([])
    height, width = cell.picture.shape[-2:]
    pixels = cell.picture.expand(3, -1, -1).permute(1, 2, 0).numpy() / 255
    if cell.heat is None:
        axis.imshow(pixels)
        return None
    # Grey without black, on which the colours could not be told apart.
    axis.imshow(pixels.mean(2), cmap="gray", vmin=-0.7, vmax=1)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    shown = axis.imshow(
        cell.heat.numpy(), alpha=0.6, vmin=0, vmax=1, extent=extent, interpolation="bilinear"
    )
    if not cell.heat.any():
        axis.text(0.5, 0.5, "all 0", transform=axis.transAxes, ha="center", va="center")
    axis.set_xlim(extent[:2])
    axis.set_ylim(extent[2:])
    return shown
