"""Train a video model with the paper's settings.

    fairseq-cgc train-video --data motion --out OUT            a few minutes on 2 cores
    fairseq-cgc train-video --data FRAMES --preset something_v1 --model tsm_cgc \\
        --weights resnet50.pth --out OUT
    torchrun --nproc-per-node 8 -m fairseq_cgc train-video --data FRAMES --preset kinetics ...

FRAMES has a folder of image files for every video, and lists as the tools of TSN and TSM write
them: FRAMES/train_videofolder.txt and val_videofolder.txt with lines of "path num_frames label",
and optionally FRAMES/category.txt with the name of a class on each line. 'motion' is a set of
generated clips. Options replace the values of the preset, which are shown in parentheses. The same
command resumes an interrupted training and ends in the same weights (on a CPU bit for bit). OUT
gets last.pt, best.pt (highest top-1 accuracy on val, one view), train.jsonl with a line for every
epoch, and settings.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from fairseq_cgc.commands.vision_commands import add_training_options
    from fairseq_cgc.video.settings import VideoSettings

    add_training_options(
        parser,
        VideoSettings,
        data="folder to which the lists' paths are relative, or 'motion': generated clips",
        weights="start from these, for example ImageNet's of the plain backbone (none)",
    )
    for split in ("train", "val"):
        parser.add_argument(
            f"--{split}-list", type=Path, metavar="FILE",
            help=f"list of videos (PATH/{split}_videofolder.txt)",
        )  # fmt: skip
    parser.add_argument(
        "--classes", type=Path, metavar="FILE",
        help="names of the classes, one a line (PATH/category.txt if it is there, else numbers)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Train."""
    from fairseq_cgc.commands.vision_commands import given_settings, train
    from fairseq_cgc.video.data.sources import Source, open_training, preset_for
    from fairseq_cgc.video.settings import VideoSettings

    settings = given_settings(arguments, VideoSettings, preset_for)
    source = Source(
        arguments.data,
        train=arguments.train_list,
        val=arguments.val_list,
        classes=arguments.classes,
        skip_broken=bool(arguments.skip_broken),
    )
    train(arguments, settings, open_training(source, settings))
