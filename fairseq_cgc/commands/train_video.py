"""Train a video model with the paper's settings.

    fairseq-cgc train-video --data motion --out OUT            a few minutes on 2 cores
    fairseq-cgc train-video --data FRAMES --preset something_v1 --model tsm_cgc \\
        --weights resnet50.pth --out OUT
    torchrun --nproc-per-node 8 -m fairseq_cgc train-video --data FRAMES --preset kinetics ...

FRAMES has a folder of image files for every video, and lists of them as the tools of TSN and TSM
write: FRAMES/train_videofolder.txt and val_videofolder.txt with lines of "path num_frames label",
and, if there are names, FRAMES/category.txt with one a line. motion are generated clips. Options
replace what the preset says; the values in parentheses are the presets'. The same command goes on
after an interruption, to the same weights (on a CPU bit by bit). OUT gets last.pt, best.pt
(highest top-1 accuracy on val, one view), train.jsonl with a line for every epoch, and
settings.json.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from fairseq_cgc.commands import image_options as command_line
    from fairseq_cgc.video.settings import VideoSettings

    parser.add_argument(
        "--data", required=True, metavar="PATH",
        help="folder to which the lists' paths are relative, or 'motion': generated clips",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder for the training")
    for split in ("train", "val"):
        parser.add_argument(
            f"--{split}-list", type=Path, metavar="FILE",
            help=f"list of videos (PATH/{split}_videofolder.txt)",
        )  # fmt: skip
    parser.add_argument(
        "--classes", type=Path, metavar="FILE",
        help="names of the classes, one a line (PATH/category.txt if it is there, else numbers)",
    )  # fmt: skip
    parser.add_argument(
        "--weights", type=Path, metavar="FILE",
        help="start from these: of the plain backbone, ImageNet's for example (none)",
    )  # fmt: skip
    command_line.add_settings(parser, VideoSettings)
    command_line.add_run_options(parser, "video")


def run(arguments: argparse.Namespace) -> None:
    """Train."""
    from fairseq_cgc.commands import image_options as command_line
    from fairseq_cgc.support.steps import only_process_in
    from fairseq_cgc.video.data.sources import Source, open_training, preset_for
    from fairseq_cgc.video.settings import VideoSettings
    from fairseq_cgc.vision.training.distributed import join_processes
    from fairseq_cgc.vision.training.trainer import Trainer

    changes = command_line.changed_settings(arguments, VideoSettings)
    settings = VideoSettings.preset(arguments.preset or preset_for(arguments.data), changes)
    run = command_line.run_options(arguments)
    source = Source(
        arguments.data,
        train=arguments.train_list,
        val=arguments.val_list,
        classes=arguments.classes,
        skip_broken=arguments.skip_broken,
    )
    data = open_training(source, settings)
    with join_processes(arguments.device) as processes:
        alone = only_process_in(arguments.out) if processes.is_main else nullcontext()
        with alone:
            trainer = Trainer(data, settings, arguments.out, run, processes, arguments.weights)
            progress = trainer.run()
        if processes.is_main:
            print(command_line.trained(arguments.out, progress))
