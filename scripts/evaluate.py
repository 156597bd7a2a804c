"""Evaluate a trained model: average its checkpoints, translate a split, score it.

    python scripts/evaluate.py SAVE_DIR --data DATA_BIN
    python scripts/evaluate.py SAVE_DIR/checkpoint_best.pt --data DATA_BIN --split valid

Run again, it repeats only what is missing or has changed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fairseq_cgc.mt.cli import run_main
from fairseq_cgc.mt.evaluation import evaluate, prepare_model
from fairseq_cgc.mt.search import SearchOptions

DEFAULT_EPOCHS = 10


def main() -> None:
    """Parse the command line, evaluate and print the scores."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", type=Path, metavar="SAVE_DIR_OR_CHECKPOINT",
        help="--save-dir of the training, or one checkpoint",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, required=True, help="folder of binarised data")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--last-epochs", type=int, metavar="N",
        help=f"average the last N epochs (default for a folder, with N = {DEFAULT_EPOCHS})",
    )  # fmt: skip
    choice.add_argument(
        "--last-updates", type=int, metavar="N", help="average the last N saved within epochs"
    )
    choice.add_argument("--best", type=int, metavar="N", help="average the best N by validation")
    choice.add_argument(
        "--no-average", action="store_true",
        help="use the file as it is (default for a file), or checkpoint_best.pt of the folder",
    )  # fmt: skip
    parser.add_argument("--split", default="test", help="split to translate (%(default)s)")
    parser.add_argument(
        "--reference", type=Path,
        help="raw references for sacreBLEU and chrF (those stored with the data)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, help="folder for the results (beside the checkpoint)"
    )
    SearchOptions.add_arguments(parser)
    arguments = parser.parse_args()

    options = SearchOptions.from_arguments(arguments)
    chosen = {key: getattr(arguments, key) for key in ("last_epochs", "last_updates", "best")}
    selection = {key: number for key, number in chosen.items() if number is not None} or None
    if selection is None and arguments.model.is_dir() and not arguments.no_average:
        selection = {"last_epochs": DEFAULT_EPOCHS}
    scores, output = evaluate(
        prepare_model(arguments.model, selection),
        arguments.data,
        split=arguments.split,
        options=options,
        reference=arguments.reference,
        output=arguments.output,
        command=sys.argv,
    )
    print(scores.table())
    print(f"\nsaved in {output}")


if __name__ == "__main__":
    run_main(main)
