"""Draw curves, heat maps, kernels, gates and scores.

    fairseq-cgc analyse curves RUN RUN --out curves.pdf
    fairseq-cgc analyse cam PLAIN/best.pt CGC/best.pt --data digits --out cam.pdf
    fairseq-cgc analyse cam OUT/best.pt photo.jpg --layer layer4.2.conv2 --out cam.png
    fairseq-cgc analyse kernels OUT/best.pt --data motion --out kernels.pdf
    fairseq-cgc analyse gates SAVE_DIR/checkpoint_best.pt --data DATA_BIN --out gates.pdf
    fairseq-cgc analyse context SAVE_DIR/checkpoint_best.pt --data DATA_BIN --out context.pdf
    fairseq-cgc analyse sentence SAVE_DIR/checkpoint_best.pt "Guten Morgen." --data DATA_BIN \\
        --out sentence.pdf
    fairseq-cgc analyse results EXPERIMENT/results.json --out results.pdf

curves takes runs of train-image, train-video or fairseq-train; cam and kernels take checkpoints of
train-image or train-video; gates, context and sentence take a translation model; results takes an
experiment of reproduce. cam, kernels, gates, context and sentence also write their numbers as JSON
beside the picture, which is a .png of 300 dpi, a .pdf or an .svg, of one or two columns' width.
What stands before the options of cam are checkpoints (.pt), then images.

context scores the references of a split with each sentence's own gates, with the mean gates of all
sentences, and with the gates of another sentence of equal length. It prints by how much the loss
rises, with 95 % confidence intervals over the sentences; the picture also has each layer alone.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fairseq_cgc
from fairseq_cgc.support.errors import UserError

#: The record of an analysis, or None for a picture alone.
_Result = dict[str, Any] | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands with their options, which are named as the parameters they become."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[..., _Result], help_: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=help_, description=help_)
        found.set_defaults(analyse=run)
        found.add_argument(
            "--out", type=Path, required=True, metavar="FILE", help="picture: .png, .pdf or .svg"
        )
        return found

    curves = command("curves", _curves, "training and validation curves of several runs (Fig. 3)")
    curves.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN",
        help="output folder of train-image or train-video, or log of fairseq-train (or a folder "
        "that holds it as train.log)",
    )  # fmt: skip
    curves.add_argument(
        "--names",
        nargs="+",
        help="names for the legend; seeds of one system share a name (each run its folder's name)",
    )

    cam = command("cam", _cam, "Grad-CAM++ before and after a layer, and of its context (Fig. 4)")
    cam.add_argument(
        "checkpoints", nargs="+", metavar="CHECKPOINT",
        help="best.pt or last.pt of train-image or train-video; several are compared",
    )  # fmt: skip
    cam.add_argument(
        "samples", nargs="*", metavar="SAMPLE",
        help="image files or folders of them, for videos folders of frames; with --data, positions "
        "in the split (the first of each class)",
    )  # fmt: skip
    cam.add_argument(
        "--data", metavar="PATH", help="data as for the training; without it, SAMPLE names files"
    )
    cam.add_argument(
        "--class", dest="target", metavar="NAME",
        help="class to explain (with --data the true class, else the predicted one)",
    )  # fmt: skip

    kernels = command("kernels", _kernels, "mean modulated kernels of classes (Fig. 5, A.2)")
    kernels.add_argument(
        "checkpoints", nargs="+", type=Path, metavar="CHECKPOINT",
        help="best.pt or last.pt of train-image or train-video; several are compared",
    )  # fmt: skip
    kernels.add_argument("--data", required=True, metavar="PATH", help="data as for the training")
    kernels.add_argument(
        "--batch-size", type=int, default=128, metavar="N", help="samples in a batch (%(default)s)"
    )
    kernels.add_argument(
        "--workers", type=int, default=min(8, os.cpu_count() or 1), metavar="N",
        help="processes that read files (%(default)s here)",
    )  # fmt: skip
    for of_vision in (cam, kernels):
        of_vision.add_argument(
            "--names", nargs="+", help="names for the models (their own, with folders if needed)"
        )
        of_vision.add_argument(
            "--layer", metavar="NAME",
            help="convolution to analyse (the last gated one; for cam of a plain model, the last "
            "one larger than 1 x 1)",
        )  # fmt: skip
        of_vision.add_argument(
            "--split", choices=("train", "val"), default="val", help="split of --data (%(default)s)"
        )
        of_vision.add_argument(
            "--list", dest="list_", type=Path, metavar="FILE",
            help="list of videos (PATH/SPLIT_videofolder.txt)",
        )  # fmt: skip
        of_vision.add_argument(
            "--device",
            choices=("auto", "cpu", "cuda"),
            default="auto",
            help="auto takes a GPU if there is one (%(default)s)",
        )

    gates = command("gates", _gates, "what the gates of a translation model depend on")
    gates.add_argument("checkpoint", type=Path, help="trained translation model")
    gates.add_argument(
        "--data", nargs="+", type=Path, required=True, metavar="DATA_BIN",
        help="folders of binarised data; the model was trained on the first",
    )  # fmt: skip
    gates.add_argument(
        "--split", nargs="+", default=["test"],
        help="splits of each folder; each is a corpus of its own (test)",
    )  # fmt: skip
    gates.add_argument("--layer", metavar="NAME", help="gated convolution to analyse (all)")

    context = command("context", _context, "how much worse a translation model is with other gates")
    context.add_argument("checkpoint", type=Path, help="trained translation model")
    context.add_argument(
        "--data", type=Path, required=True, metavar="DATA_BIN",
        help="the folder of binarised data that the model was trained on",
    )  # fmt: skip
    context.add_argument("--split", default="valid", help="split to score (%(default)s)")
    for of_corpora in (gates, context):
        of_corpora.add_argument(
            "--limit", type=int, default=5000, metavar="N",
            help="number of sentences of each corpus, spread evenly over it; 0: all (%(default)s)",
        )  # fmt: skip

    sentence = command("sentence", _sentence, "the gates of a translation model for one sentence")
    sentence.add_argument(
        "checkpoint", type=Path,
        help="trained translation model, or a folder that fairseq-cgc export has written",
    )  # fmt: skip
    sentence.add_argument("sentence", metavar="TEXT", help="the sentence, as raw text")
    sentence.add_argument(
        "--data", type=Path, metavar="DATA_BIN",
        help="the folder that a checkpoint was trained on; an exported folder needs none",
    )  # fmt: skip

    results = command("results", _results, "scores of an experiment with their spread over seeds")
    results.add_argument(
        "results", type=Path, metavar="JSON", help="results.json of fairseq-cgc reproduce"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the analysis, and write its numbers beside the picture."""
    from fairseq_cgc.support.environment import IMAGES, TRANSLATION, describe_machine, versions
    from fairseq_cgc.support.figures import check_can_draw
    from fairseq_cgc.support.files import write_json

    options = vars(arguments).copy()
    analyse, out = options.pop("analyse"), arguments.out
    if not out.parent.is_dir():
        raise UserError(f"--out is {out}, but there is no folder {out.parent}")
    check_can_draw(out)
    result = analyse(**options)
    if result is not None:
        of_translation = "checkpoint" in options
        if of_translation:
            result["checkpoint"] = arguments.checkpoint.name
        packages = TRANSLATION if of_translation else IMAGES
        result |= {
            "versions": {"fairseq_cgc": fairseq_cgc.__version__, **versions(packages)},
            "machine": describe_machine(cpu=options.get("device") == "cpu"),
        }
        write_json(out.with_suffix(".json"), result)
        print(out.with_suffix(".json"))
    print(out)


def _curves(**options: Any) -> None:
    from fairseq_cgc.analysis.curves import draw_runs

    draw_runs(**options)


def _cam(checkpoints: list[str], samples: list[str], **options: Any) -> _Result:
    from fairseq_cgc.analysis.vision_reports import report_heat_maps

    # argparse cannot tell where the one list ends and the other begins.
    words = [*checkpoints, *samples]
    models = [word for word in words if word.endswith(".pt")] or words[:1]
    return report_heat_maps(
        [Path(word) for word in models], [w for w in words if w not in models], **options
    )


def _kernels(**options: Any) -> _Result:
    from fairseq_cgc.analysis.vision_reports import report_kernels

    result = report_kernels(**options)
    for found in result.get("models", [result]):
        print(
            f"{found['model']}, {found['layer']}: the inter-class distance is larger than the "
            f"intra-class distance in {found['percentage']:.2f}% of pairs "
            f"({found['shuffled']:.2f}% with shuffled labels)"
        )
    return result


def _gates(**options: Any) -> _Result:
    from fairseq_cgc.analysis.translation_reports import report_gates

    result = report_gates(**options)
    for kind, value in result["adjusted R^2"]["all"].items():
        if value is not None:
            print(f"adjusted R^2 of {kind}: {value:.3f}")
    return result


def _context(**options: Any) -> _Result:
    from fairseq_cgc.analysis.translation_reports import report_context

    result = report_context(**options)
    print(f"{result['nll']:.3f} bits per subword with the model's own gates")
    for kind, words in (
        ("mean", "with the mean gates of all sentences"),
        ("same length", "with the gates of another sentence of equal length"),
    ):
        increase = result["increases"][kind]["all"]
        print(f"{increase['mean']:+.4f} ± {increase['error']:.4f} {words}")
    return result


def _sentence(**options: Any) -> _Result:
    from fairseq_cgc.analysis.translation_reports import report_sentence

    result = report_sentence(**options)
    print(result["translation"])
    return result


def _results(**options: Any) -> None:
    from fairseq_cgc.mt.reproduce.scores_figure import draw_results

    draw_results(**options)
