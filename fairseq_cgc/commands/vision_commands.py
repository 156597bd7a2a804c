"""What the commands for images and for videos share: their options, and how they run."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

import fairseq_cgc
from fairseq_cgc.support.environment import IMAGES, describe_machine, versions
from fairseq_cgc.support.files import write_json
from fairseq_cgc.support.options import add_options, given_values
from fairseq_cgc.support.settings_record import only_process_in
from fairseq_cgc.vision.data.dataset import SPLITS, Data, Dataset
from fairseq_cgc.vision.training.checkpoints import BEST
from fairseq_cgc.vision.training.distributed import join_processes
from fairseq_cgc.vision.training.evaluation import evaluate
from fairseq_cgc.vision.training.run_options import EvaluationOptions, RunOptions
from fairseq_cgc.vision.training.settings import TrainingSettings
from fairseq_cgc.vision.training.trained_model import TrainedModel
from fairseq_cgc.vision.training.trainer import Trainer

logger = logging.getLogger(__name__)

Kind = TypeVar("Kind", bound=TrainingSettings)


def add_training_options(
    parser: argparse.ArgumentParser, kind: type[TrainingSettings], *, data: str, weights: str
) -> None:
    """Add the options of a training, with help for ``--data`` and ``--weights``."""
    parser.add_argument("--data", required=True, metavar="PATH", help=data)
    parser.add_argument("--out", type=Path, required=True, help="folder for the training")
    parser.add_argument("--weights", type=Path, metavar="FILE", help=weights)
    parser.add_argument(
        "--preset", choices=list(kind.presets()),
        help="settings to begin with (those that fit the data, if they are known)",
    )  # fmt: skip
    settings = parser.add_argument_group("settings, with the presets' values")
    add_options(settings, kind, usual_value=kind.preset_values, negatable=True)
    run = parser.add_argument_group("running")
    add_options(run, RunOptions)


def given_settings(
    arguments: argparse.Namespace, kind: type[Kind], preset_for: Callable[[str], str]
) -> Kind:
    """The preset with the changes of the command line."""
    preset = arguments.preset or preset_for(arguments.data)
    return kind.preset(preset, given_values(arguments, kind))


def train(arguments: argparse.Namespace, settings: TrainingSettings, data: Data) -> None:
    """Train in ``--out``, and print the best checkpoint."""
    run = RunOptions(**given_values(arguments, RunOptions))
    with join_processes(run.device) as processes:
        if processes.is_main and not arguments.weights and arguments.preset in settings.fine_tuned:
            logger.warning(
                "--preset %s is for a model that starts from --weights; without them, this one "
                "starts from random values",
                arguments.preset,
            )
        with only_process_in(arguments.out) if processes.is_main else nullcontext():
            trainer = Trainer(data, settings, arguments.out, run, processes, arguments.weights)
            progress = trainer.run()
        if processes.is_main:
            best = arguments.out / BEST
            print(f"{best}: epoch {progress.best_epoch}, top-1 {progress.best_top1:.2f}%")


def add_evaluation_options(
    parser: argparse.ArgumentParser, kind: type[EvaluationOptions], *, command: str, nargs: Any
) -> None:
    """Add the options of an evaluation of what ``command`` trains.

    The checkpoint has ``nargs`` of ``"?"`` if it may be left out, else ``None``.
    """
    parser.add_argument(
        "checkpoint", nargs=nargs, type=Path, help=f"last.pt or best.pt of fairseq-cgc {command}"
    )
    parser.add_argument("--data", required=True, metavar="PATH", help=f"as for {command}")
    parser.add_argument(
        "--split", choices=SPLITS, default="val",
        help="split to evaluate; val is the test set if the data have no other (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, help="file for the result (beside the checkpoint)")
    add_options(parser.add_argument_group("running"), kind)


def evaluate_and_write(
    path: Path,
    trained: TrainedModel,
    dataset: Dataset,
    arguments: argparse.Namespace,
    options: EvaluationOptions,
    *,
    suffix: str,
    split: str,
    accepted: Tensor | None = None,
    average: str = "logits",
    views: str = "",
    **more: Any,
) -> None:
    """Evaluate a model, write the result, and print it.

    Args:
        path: of the weights.
        trained, dataset: the model, and what to evaluate it on.
        arguments, options: of the command line.
        suffix: the result is written to ``WEIGHTS.suffix.json`` unless ``--output`` is given.
        split: as the result names it.
        accepted, average: as for :func:`evaluate`.
        views: of each sample, in words.
        more: added to the result.
    """
    with join_processes(options.device) as processes:
        scores = evaluate(
            trained.model.to(processes.device),
            dataset,
            processes,
            batch_size=options.batch_size,
            workers=options.workers,
            precision=options.precision,
            channels_last=options.channels_last,
            accepted=accepted,
            average=average,
        )
        if not processes.is_main:
            return
        machine = describe_machine(cpu=processes.device.type == "cpu")
    result = {
        "checkpoint": path.name,
        "model": trained.name,
        "parameters": sum(p.numel() for p in trained.model.parameters()),
        "data": arguments.data,
        "split": split,
        "top1": scores.top1,
        "top5": scores.top5,
        "loss": scores.loss,
        dataset.noun: scores.samples,
        "precision": options.precision,
        "average": average,
        "versions": {"fairseq_cgc": fairseq_cgc.__version__, **versions(IMAGES)},
        "left_out": len(dataset) - scores.samples,
        **more,
        "machine": machine,
    }
    # First on the screen: if the file cannot be written, a long evaluation is not lost.
    seen = f"{scores.samples} {dataset.noun}{views}"
    print(f"top-1 {scores.top1:.2f}%, top-5 {scores.top5:.2f}% of {seen}")
    output = arguments.output or path.with_name(f"{path.stem}.{suffix}.json")
    write_json(output, result)
    print(output)
