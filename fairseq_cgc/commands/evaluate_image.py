"""Top-1 and top-5 accuracy of an image model.

    fairseq-cgc evaluate-image OUT/best.pt --data digits
    fairseq-cgc evaluate-image --weights resnet50.pth --model resnet50 --data IMAGENET
    fairseq-cgc evaluate-image OUT/best.pt --data OBJECTNET/images --objectnet MAPPING.json

Every image has one view. The first example takes a checkpoint of fairseq-cgc train-image. --weights
takes a file of parameters alone, under the names that torchvision gives them. The mapping for
ObjectNet is JSON: the name of a class folder to a list of the outputs (ImageNet's classes from 0 to
999) that stand for it; other folders are left out, and the border of 2 pixels is cut off.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fairseq_cgc.support.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from fairseq_cgc.commands.vision_commands import add_evaluation_options
    from fairseq_cgc.vision.training.run_options import ImageEvaluationOptions

    add_evaluation_options(parser, ImageEvaluationOptions, command="train-image", nargs="?")
    parser.add_argument(
        "--objectnet",
        type=Path,
        metavar="JSON",
        help="the mapping from folders to outputs; --data is then ObjectNet's images",
    )
    weights = parser.add_argument_group("weights that were trained elsewhere")
    weights.add_argument(
        "--weights", type=Path, metavar="FILE", help="a state dict, for example torchvision's"
    )
    weights.add_argument("--model", help="the model of --weights, see fairseq-cgc table image")


def run(arguments: argparse.Namespace) -> None:
    """Evaluate and write the result."""
    from fairseq_cgc.commands.vision_commands import evaluate_and_write
    from fairseq_cgc.support.options import given_values, option_of
    from fairseq_cgc.vision.data.transforms import Crops
    from fairseq_cgc.vision.training.run_options import ImageEvaluationOptions
    from fairseq_cgc.vision.training.trained_model import (
        evaluation_images,
        load_trained,
        load_weights_of,
    )

    options = ImageEvaluationOptions(**given_values(arguments, ImageEvaluationOptions))
    if (arguments.checkpoint is None) == (arguments.weights is None):
        raise UserError("give either a checkpoint or --weights")
    if arguments.weights is None:
        for name in ("model", "image_size", "resize"):
            if getattr(arguments, name) is not None:
                raise UserError(f"{option_of(name)} is for --weights; a checkpoint has its own")
        trained = load_trained(arguments.checkpoint)
    else:
        if arguments.model is None:
            raise UserError("--weights needs --model, for example --model resnet50")
        crops = Crops(image_size=options.image_size, resize=options.resize)
        trained = load_weights_of(arguments.model, arguments.weights, crops)
    images, accepted = evaluation_images(
        trained,
        arguments.data,
        split=arguments.split,
        objectnet=arguments.objectnet,
        skip_broken=options.skip_broken,
    )
    split = "objectnet" if arguments.objectnet else arguments.split
    path = arguments.checkpoint or arguments.weights
    evaluate_and_write(
        path, trained, images, arguments, options, suffix=split, split=split, accepted=accepted
    )
