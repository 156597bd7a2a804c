"""Options and results that the commands for images and for videos share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from torch import nn

import fairseq_cgc
from fairseq_cgc.core import UserError
from fairseq_cgc.support.environment import IMAGES, versions
from fairseq_cgc.support.options import add_options, given_values, option_of, options_of
from fairseq_cgc.vision.training.checkpoints import BEST, Progress
from fairseq_cgc.vision.training.distributed import DEVICES
from fairseq_cgc.vision.training.evaluation import Scores
from fairseq_cgc.vision.training.settings import PRECISIONS, TrainingSettings
from fairseq_cgc.vision.training.trainer import RunOptions


def add_settings(parser: argparse.ArgumentParser, kind: type[TrainingSettings]) -> Any:
    """Add ``--preset`` and the options of ``kind``; gives the group of the latter."""
    parser.add_argument(
        "--preset", choices=list(kind.presets()),
        help="settings to begin with (those of the data, if they are known)",
    )  # fmt: skip
    group = parser.add_argument_group("settings, with the presets' values")
    add_options(group, kind.option_fields(), negatable=True)
    return group


def changed_settings(arguments: argparse.Namespace, kind: type[TrainingSettings]) -> dict[str, Any]:
    """The settings that were given on the command line."""
    return given_values(arguments, kind)


def add_run_options(parser: argparse.ArgumentParser, noun: str) -> None:
    """Add the options of :class:`RunOptions`, the device and what to do with a broken ``noun``."""
    run = parser.add_argument_group("without influence on the settings")
    _add_device_and_workers(run)
    add_options(run, (o for o in options_of(RunOptions) if o.name != "workers"))
    run.add_argument(
        "--skip-broken", action="store_true",
        help=f"take the next {noun} instead of one that cannot be read; they are counted (off: an "
        "error that names the file)",
    )  # fmt: skip


def run_options(arguments: argparse.Namespace) -> RunOptions:
    """The inverse of :func:`add_run_options`.

    Raises:
        UserError: for a number that is out of range.
    """
    return RunOptions(**given_values(arguments, RunOptions))


def trained(out: Path, progress: Progress) -> str:
    """What a training says in the end."""
    return f"{out / BEST}: epoch {progress.best_epoch}, top-1 {progress.best_top1:.2f}%"


def add_evaluation_options(
    parser: argparse.ArgumentParser, *, batch_size: int, batches: str, noun: str
) -> None:
    """Add how an evaluation is run.

    Args:
        parser: to add to.
        batch_size: the default.
        batches: what goes through the model at a time.
        noun: what is evaluated, in the plural.
    """
    run = parser.add_argument_group("running")
    run.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="of products (%(default)s)"
    )
    run.add_argument(
        "--batch-size", type=int, default=batch_size, metavar="N",
        help=f"{batches} at a time (%(default)s)",
    )  # fmt: skip
    run.add_argument(
        "--skip-broken", action="store_true",
        help=f"leave out {noun} that cannot be read; they are counted (off: an error that names "
        "the file)",
    )  # fmt: skip
    _add_device_and_workers(run)


def demand_positive(arguments: argparse.Namespace, *names: str) -> None:
    """Check numbers on the command line.

    Raises:
        UserError: naming the first that is less than 1.
    """
    for name in names:
        if (value := getattr(arguments, name)) < 1:
            raise UserError(f"{option_of(name)} is {value}, but must be at least 1")


def evaluation_result(
    path: Path,
    name: str,
    model: nn.Module,
    arguments: argparse.Namespace,
    split: str,
    scores: Scores,
    noun: str,
    **more: Any,
) -> dict[str, Any]:
    """What an evaluation writes down.

    Args:
        path: of the checkpoint.
        name: of the model.
        model: itself.
        arguments: of the command line.
        split: that was evaluated.
        scores: of the model.
        noun: what was evaluated, in the plural.
        more: how it was evaluated, and on what machine.
    """
    return {
        "checkpoint": path.name,
        "model": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "data": arguments.data,
        "split": split,
        "top1": scores.top1,
        "top5": scores.top5,
        "loss": scores.loss,
        noun: scores.samples,
        "precision": arguments.precision,
        "versions": {"fairseq_cgc": fairseq_cgc.__version__, **versions(IMAGES)},
        **more,
    }


def _add_device_and_workers(group: Any) -> None:
    group.add_argument("--device", choices=DEVICES, default="auto", help="(%(default)s)")
    group.add_argument(
        "--workers", type=int, default=min(8, os.cpu_count() or 1), metavar="N",
        help="processes that read image files, for each GPU (%(default)s here)",
    )  # fmt: skip
