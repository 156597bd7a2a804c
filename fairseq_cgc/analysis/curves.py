"""Training curves of translation and image models (Fig. 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_cgc.core import UserError
from fairseq_cgc.mt.train.training_log import draw_curves
from fairseq_cgc.mt.train.training_log import read_log as read_translation_log
from fairseq_cgc.support.files import distinct_names
from fairseq_cgc.support.panels import Curve, Panel, draw_panels
from fairseq_cgc.vision.training_log import LOG, read_log

_TRANSLATION_LOG = "train.log"


def draw_runs(runs: Sequence[Path], names: Sequence[str] | None, out: Path) -> None:
    """Draw the curves of several runs. The parameters are the options of ``analyse curves``.

    Raises:
        UserError: if a log is missing or unreadable, the kinds are mixed, or the number of names
            is wrong.
    """
    if names is not None and len(names) != len(runs):
        raise UserError(f"--names has {len(names)} names, but there are {len(runs)} runs")
    logs = [_log_of(run) for run in runs]
    if names is None:
        # Curves of one name are drawn as seeds of one system, which other folders' need not be.
        names = distinct_names(
            [
                log.parent if log.name in (LOG, _TRANSLATION_LOG) else log.with_suffix("")
                for log in logs
            ]
        )
    is_image = [log.name == LOG for log in logs]
    pairs = list(zip(names, logs, strict=True))
    if all(is_image):
        draw_image_curves([ImageLog(name, read_log(log.parent)) for name, log in pairs], out)
    elif any(is_image):
        image, other = (runs[is_image.index(kind)] for kind in (True, False))
        raise UserError(f"{image} trained an image model and {other} did not: draw them separately")
    else:
        draw_curves([read_translation_log(log, name) for name, log in pairs], out)


def _log_of(run: Path) -> Path:
    if not run.is_dir():
        return run.absolute()
    for name in (LOG, _TRANSLATION_LOG):
        if (run / name).is_file():
            return run.absolute() / name
    raise UserError(f"{run} has neither {LOG} (images) nor {_TRANSLATION_LOG} (translation)")


@dataclass(frozen=True)
class ImageLog:
    """One training of an image or video model.

    Attributes:
        name: for the legend; runs with the same name (several seeds) share a colour.
        epochs: the log's line for each epoch, in order.
    """

    name: str
    epochs: Sequence[Mapping[str, Any]]


def draw_image_curves(logs: Sequence[ImageLog], output: Path) -> None:
    """Draw top-1 error and loss against epochs.

    Raises:
        UserError: if there is no run, or one has no complete epoch or lacks a value.
    """
    errors, losses = [], []
    for log in logs:
        if not log.epochs:
            raise UserError(f"{log.name} has no complete epoch to draw yet")
        try:
            epochs = [float(line["epoch"]) for line in log.epochs]
            for part in ("train", "val"):
                error = [100 - float(line[f"{part}_top1"]) for line in log.epochs]
                loss = [float(line[f"{part}_loss"]) for line in log.epochs]
                errors.append(Curve(log.name, epochs, error, part == "train"))
                losses.append(Curve(log.name, epochs, loss, part == "train"))
        except (KeyError, TypeError, ValueError) as missing:
            raise UserError(f"the log of {log.name} lacks a value in an epoch: {missing}") from None
    # Values go from a large loss to the last tenth of a percent: a linear axis would show the
    # start only.
    panels = [
        Panel(label, curves, log_scale=all(min(curve.y) > 0 for curve in curves))
        for label, curves in (("top-1 error (%)", errors), ("cross-entropy (nats)", losses))
    ]
    draw_panels(panels, "epoch", output)
