"""Curves of image trainings (Fig. 3), from the ``train.jsonl`` of scripts/train_image.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_cgc.core import UserError
from fairseq_cgc.support.figures import as_written, new_figure, save_figure

_PANELS = (("top1", "top-1 error (%)"), ("loss", "cross-entropy (nats)"))


@dataclass(frozen=True)
class ImageLog:
    """One training.

    Attributes:
        name: for the legend; runs of one name (several seeds) share a colour.
        epochs: what was logged after each, in order.
    """

    name: str
    epochs: Sequence[Mapping[str, Any]]


def draw_image_curves(logs: Sequence[ImageLog], output: Path) -> None:
    """Draw top-1 error and loss against epochs into a PNG file.

    Args:
        logs: runs to compare.
        output: file to write.

    Raises:
        UserError: if there is no run, one has no complete epoch or lacks a value, or matplotlib
            is missing.
    """
    if not logs:
        raise UserError("no training log to draw")
    curves = [(log.name, _curves(log)) for log in logs]
    names = list(dict.fromkeys(log.name for log in logs))
    colours = {name: f"C{number % 10}" for number, name in enumerate(names)}
    figure = new_figure(10, 4.6)
    axes = figure.subplots(1, len(_PANELS))
    unnamed = set(names)
    for name, curve in curves:
        label = as_written(name) if name in unnamed else None
        unnamed.discard(name)
        marker = "o" if len(curve["epoch"]) <= 60 else None
        for axis, (key, _) in zip(axes, _PANELS, strict=True):
            style: dict[str, Any] = {"color": colours[name], "linewidth": 1.4}
            axis.plot(curve["epoch"], curve[f"train_{key}"], linestyle="--", **style)
            solid = {"marker": marker, "markersize": 3, "label": label if axis is axes[0] else None}
            axis.plot(curve["epoch"], curve[f"val_{key}"], **style, **solid)
    for axis, (key, label) in zip(axes, _PANELS, strict=True):
        axis.set_title("validation (solid) and training (dashed)", fontsize=10)
        axis.set_ylabel(label)
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        # From a large loss to the last tenth of a percent: a linear axis would show the start only.
        lowest = min(min(c[f"{part}_{key}"]) for _, c in curves for part in ("train", "val"))
        if lowest > 0:
            axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.3, which="both")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    save_figure(figure, output)


def _curves(log: ImageLog) -> dict[str, list[float]]:
    if not log.epochs:
        raise UserError(f"{log.name} has no complete epoch to draw yet")
    try:
        curves = {"epoch": [float(line["epoch"]) for line in log.epochs]}
        for part in ("train", "val"):
            curves[f"{part}_loss"] = [float(line[f"{part}_loss"]) for line in log.epochs]
            curves[f"{part}_top1"] = [100 - float(line[f"{part}_top1"]) for line in log.epochs]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the log of {log.name} lacks a value of every epoch: {error}") from None
    return curves
