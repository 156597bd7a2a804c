"""Train an image model with the paper's settings.

    fairseq-cgc train-image --data digits --out OUT            a few minutes on 2 cores
    fairseq-cgc train-image --data CIFAR --out OUT             cifar-10-binary, unpacked
    fairseq-cgc train-image --data IMAGENET --out OUT --preset advanced --precision bfloat16
    fairseq-cgc train-image --data FOLDERS --weights resnet50.pth --lr 0.01 --out OUT
    torchrun --nproc-per-node 8 -m fairseq_cgc train-image --data IMAGENET --out OUT

Image folders are IMAGENET/train/CLASS/*.jpg and IMAGENET/val/CLASS/*.jpg. Options replace the
values of the preset, which are shown in parentheses. The same command resumes an interrupted
training and ends in the same weights (on a CPU bit for bit). OUT gets last.pt, best.pt (highest
top-1 accuracy on val), train.jsonl with a line for every epoch, and settings.json.
"""

from __future__ import annotations

import argparse
from typing import Any

from fairseq_cgc.support.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from fairseq_cgc.commands.vision_commands import add_training_options
    from fairseq_cgc.vision.training.settings import Settings

    add_training_options(
        parser,
        Settings,
        data="image folders, CIFAR-10's binary files, or 'digits': those of scikit-learn",
        weights="start from these, for example ImageNet's of the plain model (none)",
    )
    parser.add_argument(
        "--cgc", action="append", default=[], metavar="KEY=VALUE",
        help="a switch of the gates, for example branches=in or stages=[res2,res3]; may be "
        "repeated (none)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Train."""
    from fairseq_cgc.commands.vision_commands import given_settings, train
    from fairseq_cgc.vision.data.sources import open_data, preset_for
    from fairseq_cgc.vision.training.settings import Settings

    arguments.cgc = _switches(arguments.cgc) or None
    settings = given_settings(arguments, Settings, preset_for)
    train(
        arguments,
        settings,
        open_data(arguments.data, settings.crops, skip_broken=bool(arguments.skip_broken)),
    )


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
