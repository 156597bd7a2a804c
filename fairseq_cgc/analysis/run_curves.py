"""The curves of trainings, whichever of our commands trained them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fairseq_cgc.analysis.image_curves import ImageLog, draw_image_curves
from fairseq_cgc.core import UserError
from fairseq_cgc.mt.train.training_log import draw_curves
from fairseq_cgc.mt.train.training_log import read_log as read_translation_log
from fairseq_cgc.vision.training_log import LOG, read_log

_TRANSLATION_LOG = "train.log"


def draw_runs(runs: Sequence[Path], names: Sequence[str] | None, output: Path) -> None:
    """Draw the curves of several runs into one PNG file.

    Args:
        runs: folders of scripts/train_image.py; or logs of fairseq-train, or folders in which
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
