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
    from fairseq_cgc.commands import image_options as command_line
    from fairseq_cgc.vision.data.sources import SPLITS

    parser.add_argument(
        "checkpoint", nargs="?", type=Path, help="last.pt or best.pt of fairseq-cgc train-image"
    )
    parser.add_argument("--data", required=True, metavar="PATH", help="as for train-image")
    parser.add_argument(
        "--split", choices=SPLITS, default="val",
        help="val is the test set of CIFAR-10 and digits (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--objectnet", type=Path, metavar="JSON", help="the mapping; --data is ObjectNet's images"
    )
    parser.add_argument("--output", type=Path, help="result (beside the checkpoint)")
    weights = parser.add_argument_group("weights of others")
    weights.add_argument("--weights", type=Path, metavar="FILE", help="a state dict")
    weights.add_argument("--model", help="their model, see fairseq-cgc table image")
    weights.add_argument(
        "--image-size", type=int, default=224, metavar="N", help="side of the crop (%(default)s)"
    )
    weights.add_argument(
        "--resize", type=int, default=256, metavar="N",
        help="shorter side before the crop (%(default)s)",
    )  # fmt: skip
    command_line.add_evaluation_options(parser, batch_size=128, batches="images", noun="images")


def run(arguments: argparse.Namespace) -> None:
    """Evaluate and write the result."""
    from fairseq_cgc.commands import image_options as command_line
    from fairseq_cgc.support.environment import describe_machine
    from fairseq_cgc.support.files import write_json
    from fairseq_cgc.vision.data.transforms import Crops
    from fairseq_cgc.vision.training.distributed import join_processes
    from fairseq_cgc.vision.training.evaluation import evaluate
    from fairseq_cgc.vision.training.trained_model import load_trained, load_weights_of, test_images

    path = arguments.checkpoint or arguments.weights
    if (arguments.checkpoint is None) == (arguments.weights is None):
        raise UserError("give either a checkpoint or --weights")
    command_line.demand_positive(arguments, "batch_size")
    if arguments.weights is None:
        if arguments.model is not None:
            raise UserError("--model is for --weights; a checkpoint says itself what it is of")
        subject = load_trained(arguments.checkpoint)
    else:
        if arguments.model is None:
            raise UserError("--weights needs --model, for example --model resnet50")
        crops = Crops(image_size=arguments.image_size, resize=arguments.resize)
        subject = load_weights_of(arguments.model, arguments.weights, crops)
    images, accepted = test_images(
        subject,
        arguments.data,
        split=arguments.split,
        objectnet=arguments.objectnet,
        skip_broken=arguments.skip_broken,
    )
    split = "objectnet" if arguments.objectnet else arguments.split
    output = arguments.output or path.with_name(f"{path.stem}.{split}.json")
    with join_processes(arguments.device) as processes:
        scores = evaluate(
            subject.model.to(processes.device),
            images,
            processes,
            batch_size=arguments.batch_size,
            workers=arguments.workers,
            precision=arguments.precision,
            accepted=accepted,
        )
        if processes.is_main:
            machine = describe_machine(cpu=processes.device.type == "cpu")
            result = command_line.evaluation_result(
                *(path, subject.name, subject.model, arguments, split, scores, images.noun),
                left_out=len(images) - scores.samples,
                machine=machine,
            )
            write_json(output, result)
            print(f"top-1 {scores.top1:.2f}%, top-5 {scores.top5:.2f}% of {scores.samples} images")
            print(output)
