"""The curves of trainings (Fig. 3), whichever of our commands trained them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_cgc.core import UserError
from fairseq_cgc.mt.train.training_log import draw_curves
from fairseq_cgc.mt.train.training_log import read_log as read_translation_log
from fairseq_cgc.support.figures import as_written, new_figure, save_figure
from fairseq_cgc.vision.training_log import LOG, read_log

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


_TRANSLATION_LOG = "train.log"


def draw_runs(runs: Sequence[Path], names: Sequence[str] | None, output: Path) -> None:
    """Draw the curves of several runs into one PNG file.

    Args:
        runs: folders of ``fairseq-cgc train-image``; or logs of fairseq-train, or folders in which
            they are named train.log.
        names: for the legend; several runs (seeds) may share one. By default the folders'.
        output: file to write.

    Raises:
        UserError: if a log is missing or unreadable, the kinds are mixed, or the names do not fit.
    """
    if names is not None and len(names) != len(runs):
        raise UserError(f"--names has {len(names)} names, but there are {len(runs)} runs")
    logs = [_log(run) for run in runs]
    names = names or [log.parent.name if log.name in (LOG, _TRANSLATION_LOG) else log.stem
                      for log in logs]  # fmt: skip
    of_images = [log.name == LOG for log in logs]
    if all(of_images):
        draw_image_curves(
            [ImageLog(name, read_log(log.parent)) for name, log in zip(names, logs, strict=True)],
            output,
        )
    elif any(of_images):
        image, other = (runs[of_images.index(kind)] for kind in (True, False))
        raise UserError(f"{image} trained an image model and {other} did not: draw them apart")
    else:
        pairs = zip(logs, names, strict=True)
        draw_curves([read_translation_log(log, name) for log, name in pairs], output)


def _log(run: Path) -> Path:
    if not run.is_dir():
        return run.absolute()
    for name in (LOG, _TRANSLATION_LOG):
        if (run / name).is_file():
            return run.absolute() / name
    raise UserError(f"{run} has neither {LOG} (images) nor {_TRANSLATION_LOG} (translation)")
