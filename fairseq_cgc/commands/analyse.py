"""Draw curves, heat maps, modulated kernels and gates.

    fairseq-cgc analyse curves RUN RUN --out curves.png
    fairseq-cgc analyse cam OUT/best.pt --data digits --out cam.png
    fairseq-cgc analyse cam OUT/best.pt photo.jpg --layer layer4.2.conv2 --out cam.png
    fairseq-cgc analyse kernels OUT/best.pt --data digits --out kernels.png
    fairseq-cgc analyse gates SAVE_DIR/checkpoint_best.pt --data DATA_BIN --out gates.png

curves takes trainings of train-image, train-video or fairseq-train, cam and kernels checkpoints of
train-image, gates a translation model. All but curves write the numbers in JSON beside the
picture. Images stand right behind the checkpoint, before the options.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import fairseq_cgc
from fairseq_cgc.support.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands with their options."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, help_: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=help_, description=help_)
        found.set_defaults(analyse=run)
        found.add_argument("--out", type=Path, required=True, metavar="PNG", help="file to write")
        return found

    of_curves = command(
        "curves", _curves, "training and validation curves of several runs (Fig. 3)"
    )
    of_curves.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN",
        help="--out of train-image or train-video, or a log of fairseq-train (its folder, "
        "for train.log)",
    )  # fmt: skip
    of_curves.add_argument(
        "--names", nargs="+", help="of the runs (their files' names); seeds of one name share it"
    )

    of_cam = command("cam", _cam, "Grad-CAM++ before and after a layer, and its context (Fig. 4)")
    of_cam.add_argument("checkpoint", type=Path, help="best.pt or last.pt of train-image")
    of_cam.add_argument(
        "images", nargs="*", metavar="IMAGE",
        help="files or folders; with --data, numbers within the split (the first of each class)",
    )  # fmt: skip
    of_cam.add_argument("--data", metavar="PATH", help="as for train-image (none: files)")
    of_cam.add_argument(
        "--class", dest="target", metavar="NAME",
        help="class to explain (with --data the true one, else the predicted one)",
    )  # fmt: skip

    of_kernels = command("kernels", _kernels, "mean modulated kernels of classes (Fig. 5, A.2)")
    of_kernels.add_argument("checkpoint", type=Path, help="best.pt or last.pt of train-image")
    of_kernels.add_argument("--data", required=True, metavar="PATH", help="as for train-image")
    of_kernels.add_argument(
        "--batch-size", type=int, default=128, metavar="N", help="images at a time (%(default)s)"
    )
    of_kernels.add_argument(
        "--workers", type=int, default=min(8, os.cpu_count() or 1), metavar="N",
        help="processes that read image files (%(default)s here)",
    )  # fmt: skip
    for image_command in (of_cam, of_kernels):
        image_command.add_argument(
            "--layer",
            metavar="NAME",
            help="a convolution (the last gated one; cam: of a plain model, the last one of more "
            "than 1 x 1)",
        )
        image_command.add_argument(
            "--split", choices=("train", "val"), default="val", help="of --data (%(default)s)"
        )
        image_command.add_argument(
            "--device", choices=("auto", "cpu", "cuda"), default="auto", help="(%(default)s)"
        )

    of_gates = command("gates", _gates, "what the gates of a translation model depend on")
    of_gates.add_argument("checkpoint", type=Path, help="a trained model")
    of_gates.add_argument(
        "--data", nargs="+", type=Path, required=True, metavar="DATA_BIN",
        help="folders of binarised data, the first the one that it was trained on",
    )  # fmt: skip
    of_gates.add_argument(
        "--split", nargs="+", default=["test"], help="of each folder; every one is a corpus (test)"
    )
    of_gates.add_argument("--layer", metavar="NAME", help="a gated convolution (all)")
    of_gates.add_argument(
        "--limit", type=int, default=5000, metavar="N",
        help="sentences of each corpus, drawn evenly over it; 0: all (%(default)s)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Call the analysis, and write its numbers beside the picture."""
    from fairseq_cgc.support.environment import IMAGES, TRANSLATION, describe_machine, versions
    from fairseq_cgc.support.figures import check_can_draw
    from fairseq_cgc.support.files import write_json

    out: Path = arguments.out
    if out.suffix.lower() != ".png":
        raise UserError(f"--out is {out}, but must end in .png")
    if not out.parent.is_dir():
        raise UserError(f"--out is {out}, but there is no folder {out.parent}")
    check_can_draw()
    result = arguments.analyse(arguments)
    if result is not None:
        packages = TRANSLATION if arguments.analyse is _gates else IMAGES
        with_what = {
            "checkpoint": arguments.checkpoint.name,
            "versions": {"fairseq_cgc": fairseq_cgc.__version__, **versions(packages)},
            "machine": describe_machine(cpu=getattr(arguments, "device", "auto") == "cpu"),
        }
        write_json(out.with_suffix(".json"), {**result, **with_what})
        print(out.with_suffix(".json"))
    print(out)


def _curves(arguments: argparse.Namespace) -> None:
    """Fig. 3."""
    from fairseq_cgc.analysis.curves import draw_runs

    draw_runs(arguments.runs, arguments.names, arguments.out)


def _cam(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fig. 4."""
    from fairseq_cgc.analysis.image_reports import report_heat_maps

    return report_heat_maps(
        arguments.checkpoint,
        arguments.images,
        arguments.out,
        data=arguments.data,
        split=arguments.split,
        layer=arguments.layer,
        target=arguments.target,
        device=arguments.device,
    )


def _kernels(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fig. 5 and appendix A.2."""
    from fairseq_cgc.analysis.image_reports import report_kernels

    result = report_kernels(
        arguments.checkpoint,
        arguments.out,
        data=arguments.data,
        split=arguments.split,
        layer=arguments.layer,
        device=arguments.device,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
    )
    print(
        f"{result['layer']}: inter-class distance larger than intra-class distance in "
        f"{result['percentage']:.2f}% of pairs ({result['shuffled']:.2f}% with shuffled labels)"
    )
    return result


def _gates(arguments: argparse.Namespace) -> dict[str, Any]:
    """The gates of sentences by length and corpus."""
    from fairseq_cgc.analysis.translation_reports import report_gates

    result = report_gates(
        arguments.checkpoint,
        arguments.data,
        arguments.out,
        splits=arguments.split,
        layer=arguments.layer,
        limit=arguments.limit,
    )
    for kind, value in result["adjusted R^2"]["all"].items():
        if value is not None:
            print(f"adjusted R^2 of {kind}: {value:.3f}")
    return result
