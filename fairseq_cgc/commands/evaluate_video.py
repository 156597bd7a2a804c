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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from fairseq_cgc.commands.vision_commands import add_evaluation_options
    from fairseq_cgc.video.settings import VideoEvaluationOptions

    add_evaluation_options(parser, VideoEvaluationOptions, command="train-video", nargs=None)
    parser.add_argument(
        "--list", type=Path, metavar="FILE", help="list of videos (PATH/SPLIT_videofolder.txt)"
    )
    parser.add_argument(
        "--classes", type=Path, metavar="FILE",
        help="names of the classes, one a line (PATH/category.txt if it is there)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Evaluate and write the result."""
    from fairseq_cgc.commands.vision_commands import evaluate_and_write
    from fairseq_cgc.support.options import given_values
    from fairseq_cgc.video.data.sources import Source, open_evaluation
    from fairseq_cgc.video.settings import VideoEvaluationOptions, VideoSettings
    from fairseq_cgc.vision.training.checkpoints import load_checkpoint
    from fairseq_cgc.vision.training.trained_model import TrainedModel

    options = VideoEvaluationOptions(**given_values(arguments, VideoEvaluationOptions))
    path, split, seen = arguments.checkpoint, arguments.split, options.seen
    checkpoint = load_checkpoint(path, VideoSettings)
    settings = checkpoint.settings
    assert isinstance(settings, VideoSettings)
    trained = TrainedModel.of(checkpoint)
    source = Source(
        arguments.data,
        **{split: arguments.list},
        classes=arguments.classes,
        skip_broken=options.skip_broken,
    )
    videos = open_evaluation(source, split, settings, checkpoint.classes, seen)
    trained.check_data(videos, arguments.data)
    average = options.average or ("softmax" if settings.model.startswith("p3d") else "logits")
    evaluate_and_write(
        *(path, trained, videos, arguments, options),
        suffix=f"{split}.{seen.clips}x{seen.crops}",
        split=split,
        average=average,
        views=f", {seen.clips} x {seen.crops} views",
        clips=seen.clips,
        crops=seen.crops,
    )
