"""Train an image model with the paper's settings.

    python scripts/train_image.py --data digits --out OUT            a few minutes on 2 cores
    python scripts/train_image.py --data CIFAR --out OUT             cifar-10-binary, unpacked
    python scripts/train_image.py --data IMAGENET --out OUT --preset advanced --precision bfloat16
    torchrun --nproc-per-node 8 scripts/train_image.py --data IMAGENET --out OUT

Image folders are IMAGENET/train/CLASS/*.jpg and IMAGENET/val/CLASS/*.jpg. Options replace what
the preset says; the values in parentheses are the presets'. The same command goes on after an
interruption, to the same weights (on a CPU bit by bit). OUT gets last.pt, best.pt (highest top-1
accuracy on val), train.jsonl with a line for every epoch, and settings.json.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import yaml

from fairseq_cgc.core import UserError
from fairseq_cgc.mt.cli import run_main
from fairseq_cgc.mt.steps import only_process_in

try:
    from fairseq_cgc.vision.training.data import crops_of, open_data, preset_for
    from fairseq_cgc.vision.training.processes import DEVICES, join_processes
    from fairseq_cgc.vision.training.settings import option_fields, option_of, preset, presets
    from fairseq_cgc.vision.training.trainer import RunOptions, Trainer
except ImportError as error:  # of an optional package
    sys.exit(f"error: {error}")


def main() -> None:
    """Parse the command line and train."""
    arguments = _parser().parse_args()
    changes = {
        name: tuple(value) if isinstance(value, list) else value
        for name, _, _, _ in option_fields()
        if (value := getattr(arguments, name)) is not None
    }
    changes |= {"cgc": _switches(arguments.cgc)} if arguments.cgc else {}
    settings = preset(arguments.preset or preset_for(arguments.data), changes)
    run = RunOptions(
        workers=arguments.workers,
        save_updates=arguments.save_updates,
        keep_epochs=arguments.keep_epochs,
        tensorboard=arguments.tensorboard,
    )
    data = open_data(arguments.data, crops_of(settings))
    with join_processes(arguments.device) as processes:
        alone = only_process_in(arguments.out) if processes.is_main else nullcontext()
        with alone:
            progress = Trainer(data, settings, arguments.out, run, processes).run()
        if processes.is_main:
            print(
                f"{arguments.out / 'best.pt'}: epoch {progress.best_epoch}, "
                f"top-1 {progress.best_top1:.2f}%"
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", required=True, metavar="PATH",
        help="image folders, CIFAR-10's binary files, or 'digits': those of scikit-learn",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder for the training")
    parser.add_argument(
        "--preset", choices=list(presets()),
        help="settings to begin with (default, cifar10 or digits, as the data are)",
    )  # fmt: skip
    settings = parser.add_argument_group("settings, with the presets' values")
    for name, type_, help_, choices in option_fields():
        keywords: dict[str, Any] = {"help": help_.replace("%", "%%"), "default": None}
        if type_ is bool:
            keywords["action"] = argparse.BooleanOptionalAction
        elif type_ in (str, int, float):
            keywords |= {"type": type_, "metavar": name.rpartition("_")[2].upper()}
            keywords |= {"choices": choices, "metavar": None} if choices else {}
        else:
            keywords |= {"type": int, "nargs": "*", "metavar": "EPOCH"}
        settings.add_argument(option_of(name), **keywords)
    settings.add_argument(
        "--cgc", action="append", metavar="KEY=VALUE",
        help="a switch of the gates, for example branches=1 or stages=[res2,res3]; may be "
        "repeated (none)",
    )  # fmt: skip
    run = parser.add_argument_group("without influence on the settings")
    run.add_argument("--device", choices=DEVICES, default="auto", help="(%(default)s)")
    run.add_argument(
        "--workers", type=int, default=min(8, os.cpu_count() or 1), metavar="N",
        help="processes that read image files, for each GPU (%(default)s here)",
    )  # fmt: skip
    run.add_argument(
        "--save-updates", type=int, default=0, metavar="N",
        help="write last.pt every N updates within an epoch too; 0: only after it (%(default)s)",
    )  # fmt: skip
    run.add_argument(
        "--keep-epochs", type=int, default=0, metavar="N",
        help="keep a checkpoint of every N-th epoch; 0: of none (%(default)s)",
    )  # fmt: skip
    run.add_argument(
        "--tensorboard", action="store_true", help="write curves to OUT/tensorboard (off)"
    )
    return parser


def _switches(words: list[str]) -> dict[str, Any]:
    switches: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        try:
            switches[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not key or not equals:
            raise UserError(f"--cgc is {word!r}, but must be KEY=VALUE")
    return switches


if __name__ == "__main__":
    run_main(main)
