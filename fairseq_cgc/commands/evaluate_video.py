"""Top-1 and top-5 accuracy of a video model.

    fairseq-cgc evaluate-video OUT/best.pt --data motion
    fairseq-cgc evaluate-video OUT/best.pt --data FRAMES                   one clip, 224 x 224
    fairseq-cgc evaluate-video OUT/best.pt --data FRAMES --views 30        10 clips x 3 crops

A video has one view, or several. Clips are sampled as in training, but evenly; a single one lies in
the middle. One crop is the central square, three are the largest squares along the longer side,
which is TSM's and Non-local's evaluation at full resolution. The views' logits are averaged for TSN
and TSM, as TSM's code does, and their probabilities for P3D, as Non-local Neural Networks (CVPR
2018) describe it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fairseq_cgc.support.errors import UserError

if TYPE_CHECKING:
    from fairseq_cgc.video.data.dataset import Views

#: --views: clips and crops.
_VIEWS = {1: (1, 1), 10: (10, 1), 30: (10, 3)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from fairseq_cgc.commands import image_options as command_line
    from fairseq_cgc.video.data.dataset import CROPS
    from fairseq_cgc.vision.data.sources import SPLITS
    from fairseq_cgc.vision.training.evaluation import AVERAGES

    parser.add_argument(
        "checkpoint", type=Path, help="last.pt or best.pt of fairseq-cgc train-video"
    )
    parser.add_argument("--data", required=True, metavar="PATH", help="as for train-video")
    parser.add_argument("--split", choices=SPLITS, default="val", help="(%(default)s)")
    parser.add_argument(
        "--list", type=Path, metavar="FILE", help="of videos (PATH/SPLIT_videofolder.txt)"
    )
    parser.add_argument(
        "--classes", type=Path, metavar="FILE",
        help="names of the classes, one a line (PATH/category.txt if it is there)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, help="result (beside the checkpoint)")
    views = parser.add_argument_group("views of a video")
    views.add_argument(
        "--views", type=int, choices=_VIEWS,
        help="1: one clip; 10: ten clips; 30: ten clips with three crops (1)",
    )  # fmt: skip
    views.add_argument("--clips", type=int, metavar="N", help="along time (1)")
    views.add_argument("--crops", type=int, choices=CROPS, help="of each clip (1)")
    views.add_argument(
        "--average", choices=AVERAGES, help="what is averaged (logits; softmax for P3D)"
    )
    command_line.add_evaluation_options(parser, batch_size=16, batches="views", noun="videos")


def run(arguments: argparse.Namespace) -> None:
    """Evaluate and write the result."""
    from fairseq_cgc.commands import image_options as command_line
    from fairseq_cgc.support.environment import describe_machine
    from fairseq_cgc.support.files import write_json
    from fairseq_cgc.video.data.sources import Source, open_evaluation
    from fairseq_cgc.video.settings import VideoSettings
    from fairseq_cgc.vision.training.checkpoints import load_checkpoint
    from fairseq_cgc.vision.training.distributed import join_processes
    from fairseq_cgc.vision.training.evaluation import evaluate
    from fairseq_cgc.vision.training.trained_model import check_channels, check_classes

    command_line.demand_positive(arguments, "batch_size")
    views = _views(arguments)
    path = arguments.checkpoint
    checkpoint = load_checkpoint(path, VideoSettings)
    settings, classes = checkpoint.settings, checkpoint.classes
    assert isinstance(settings, VideoSettings)
    source = Source(
        arguments.data,
        **{arguments.split: arguments.list},
        classes=arguments.classes,
        skip_broken=arguments.skip_broken,
    )
    videos = open_evaluation(source, arguments.split, settings, classes, views)
    check_classes(videos, arguments.data, outputs=len(classes), classes=classes)
    check_channels(videos, arguments.data, checkpoint.channels)
    average = arguments.average or ("softmax" if settings.model.startswith("p3d") else "logits")
    output = arguments.output or path.with_name(
        f"{path.stem}.{arguments.split}.{views.clips}x{views.crops}.json"
    )
    with join_processes(arguments.device) as processes:
        model = checkpoint.create_model().to(processes.device)
        scores = evaluate(
            model,
            videos,
            processes,
            batch_size=arguments.batch_size,
            workers=arguments.workers,
            precision=arguments.precision,
            average=average,
        )
        if processes.is_main:
            result = command_line.evaluation_result(
                *(path, settings.model, model, arguments, arguments.split, scores, videos.noun),
                left_out=len(videos) - scores.samples,
                clips=views.clips,
                crops=views.crops,
                average=average,
                machine=describe_machine(cpu=processes.device.type == "cpu"),
            )
            write_json(output, result)
            print(
                f"top-1 {scores.top1:.2f}%, top-5 {scores.top5:.2f}% of {scores.samples} videos, "
                f"{views.clips} x {views.crops} views"
            )
            print(output)


def _views(arguments: argparse.Namespace) -> Views:
    """What ``--views``, or ``--clips`` and ``--crops``, say."""
    from fairseq_cgc.video.data.dataset import Views

    if arguments.views is not None:
        if (arguments.clips, arguments.crops) != (None, None):
            raise UserError("--views stands for --clips and --crops: give one or the others")
        return Views(*_VIEWS[arguments.views])
    clips = 1 if arguments.clips is None else arguments.clips
    if clips < 1:
        raise UserError(f"--clips is {clips}, but must be at least 1")
    return Views(clips, arguments.crops or 1)
