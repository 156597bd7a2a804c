"""Train an image model with the paper's settings.

    fairseq-cgc train-image --data digits --out OUT            a few minutes on 2 cores
    fairseq-cgc train-image --data CIFAR --out OUT             cifar-10-binary, unpacked
    fairseq-cgc train-image --data IMAGENET --out OUT --preset advanced --precision bfloat16
    fairseq-cgc train-image --data FOLDERS --weights resnet50.pth --lr 0.01 --out OUT
    torchrun --nproc-per-node 8 -m fairseq_cgc train-image --data IMAGENET --out OUT

Image folders are IMAGENET/train/CLASS/*.jpg and IMAGENET/val/CLASS/*.jpg. Options replace what
the preset says; the values in parentheses are the presets'. The same command goes on after an
interruption, to the same weights (on a CPU bit by bit). OUT gets last.pt, best.pt (highest top-1
accuracy on val), train.jsonl with a line for every epoch, and settings.json.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fairseq_cgc.support.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from fairseq_cgc.commands import image_options as command_line
    from fairseq_cgc.vision.training.settings import Settings

    parser.add_argument(
        "--data", required=True, metavar="PATH",
        help="image folders, CIFAR-10's binary files, or 'digits': those of scikit-learn",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder for the training")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE",
        help="start from these: of the plain model, ImageNet's for example (none)",
    )  # fmt: skip
    settings = command_line.add_settings(parser, Settings)
    settings.add_argument(
        "--cgc", action="append", metavar="KEY=VALUE",
        help="a switch of the gates, for example branches=in or stages=[res2,res3]; may be "
        "repeated (none)",
    )  # fmt: skip
    command_line.add_run_options(parser, "image")


def run(arguments: argparse.Namespace) -> None:
    """Train."""
    from fairseq_cgc.commands import image_options as command_line
    from fairseq_cgc.support.steps import only_process_in
    from fairseq_cgc.vision.data.sources import crops_of, open_data, preset_for
    from fairseq_cgc.vision.training.distributed import join_processes
    from fairseq_cgc.vision.training.settings import Settings
    from fairseq_cgc.vision.training.trainer import Trainer

    changes = command_line.changed_settings(arguments, Settings)
    changes |= {"cgc": _switches(arguments.cgc)} if arguments.cgc else {}
    settings = Settings.preset(arguments.preset or preset_for(arguments.data), changes)
    run = command_line.run_options(arguments)
    data = open_data(arguments.data, crops_of(settings), skip_broken=arguments.skip_broken)
    with join_processes(arguments.device) as processes:
        alone = only_process_in(arguments.out) if processes.is_main else nullcontext()
        with alone:
            trainer = Trainer(data, settings, arguments.out, run, processes, arguments.weights)
            progress = trainer.run()
        if processes.is_main:
            print(command_line.trained(arguments.out, progress))


def _switches(words: list[str]) -> dict[str, Any]:
    import yaml

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
