"""The options of trainings and evaluations that do not decide the weights."""

from __future__ import annotations

import os
from dataclasses import dataclass

from fairseq_cgc.support.options import AT_LEAST_0, AT_LEAST_1, between, check_values, setting
from fairseq_cgc.vision.training.settings import LAYOUT_HELP, PRECISION_HELP, PRECISIONS, SIDE

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class ComputingOptions:
    """How to compute, and what to do about broken files.

    Raises:
        UserError: for a value that is not allowed, naming the option.
    """

    device: str = setting("auto", "auto takes a GPU if there is one", DEVICES)
    workers: int = setting(
        min(8, os.cpu_count() or 1),
        "processes that read image files, for each GPU",
        range_=between(0, 256),
    )
    skip_broken: bool = setting(
        False,
        "leave out samples that cannot be read, and count them; a training takes the next sample "
        "instead (off: an error that names the file)",
    )

    def __post_init__(self) -> None:
        check_values(self)


@dataclass(frozen=True, kw_only=True)
class RunOptions(ComputingOptions):
    """How to run a training."""

    save_updates: int = setting(
        0,
        "also write last.pt after every N updates; 0: only after each epoch",
        range_=AT_LEAST_0,
        metavar="N",
    )
    keep_epochs: int = setting(
        0,
        "keep the checkpoint of every N-th epoch; 0: keep none",
        range_=AT_LEAST_0,
        metavar="N",
    )
    tensorboard: bool = setting(False, "write curves to OUT/tensorboard")


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(ComputingOptions):
    """How to run an evaluation."""

    precision: str = setting("float32", PRECISION_HELP, PRECISIONS)
    channels_last: bool = setting(False, LAYOUT_HELP)
    batch_size: int = setting(128, "images in a batch", range_=AT_LEAST_1)


@dataclass(frozen=True, kw_only=True)
class ImageEvaluationOptions(EvaluationOptions):
    """How to run an evaluation of images; a checkpoint has its own crops."""

    image_size: int = setting(224, "with --weights: side of the crop, in pixels", range_=SIDE)
    resize: int = setting(
        256, "with --weights: pixels of the shorter side before the crop", range_=SIDE
    )
