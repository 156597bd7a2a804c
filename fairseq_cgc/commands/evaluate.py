"""Average checkpoints, translate a split, score it.

    fairseq-cgc evaluate SAVE_DIR --data DATA_BIN
    fairseq-cgc evaluate SAVE_DIR/checkpoint_best.pt --data DATA_BIN --split valid
    fairseq-cgc evaluate SAVE_DIR --data DATA_BIN --sweep-lenpen 0.6,0.8,1.0,1.2

Of a folder, the last 10 epochs are averaged, or all where there are fewer; other options choose
other checkpoints. The scores are tokenised BLEU-4 as in the paper, cased and uncased sacreBLEU, and
chrF2. Compounds are never split at hyphens. Run again, the command repeats only what is missing or
has changed.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from fairseq_cgc.commands.average import add_selection, selection_of

DEFAULT_EPOCHS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from fairseq_cgc.inference.search_options import SearchOptions

    parser.add_argument(
        "model", type=Path, metavar="SAVE_DIR_OR_CHECKPOINT",
        help="the --save-dir of a training, or a checkpoint",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of binarised data (fairseq-preprocess)"
    )
    choice = parser.add_mutually_exclusive_group()
    add_selection(choice)
    choice.add_argument(
        "--no-average", action="store_true",
        help="evaluate the checkpoint as it is (default for a file); of a folder, "
        "checkpoint_best.pt",
    )  # fmt: skip
    parser.add_argument("--split", default="test", help="split to translate (%(default)s)")
    parser.add_argument(
        "--reference", type=Path,
        help="file of raw references for sacreBLEU and chrF (default: those stored with the data)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, help="folder for the results (default: beside the checkpoint)"
    )
    SearchOptions.add_arguments(parser)
    parser.add_argument(
        "--sweep-lenpen", metavar="X,Y,...",
        help="try these length penalties on the 'valid' split, use the one with the best "
        "tokenised BLEU-4 for --split, and record the scores of all",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Evaluate and print the scores."""
    from fairseq_cgc.inference.search_options import SearchOptions
    from fairseq_cgc.mt.evaluate.evaluation import (
        check_references,
        describe_weights,
        evaluate,
        prepare_model,
    )
    from fairseq_cgc.mt.evaluate.lenpen import TUNING_SPLIT, parse_lenpens, sweep_lenpen
    from fairseq_cgc.support.command_line import typed_command
    from fairseq_cgc.support.errors import UserError

    lenpens = None if arguments.sweep_lenpen is None else parse_lenpens(arguments.sweep_lenpen)
    if lenpens is not None and arguments.lenpen is not None:
        raise UserError("--lenpen and --sweep-lenpen exclude each other; give one of them")

    options = SearchOptions.from_arguments(arguments)
    selection: dict[str, int] | None = selection_of(arguments) or None
    by_default = selection is None and arguments.model.is_dir() and not arguments.no_average
    if by_default:
        selection = {"last_epochs": DEFAULT_EPOCHS}
    model = prepare_model(arguments.model, selection, or_fewer=by_default)
    tuning = None
    if lenpens is not None:
        # A mistake in the references is reported before the sweep, which takes a while.
        check_references(model, arguments.data, arguments.split, arguments.reference)
        tuning = sweep_lenpen(
            model, arguments.data, lenpens,
            options=options, output=arguments.output, command=typed_command(),
        )  # fmt: skip
        options = dataclasses.replace(options, lenpen=tuning.best.lenpen)
        print(tuning.table())
        print(
            f"\nbest tokenised BLEU-4 on {TUNING_SPLIT}: lenpen {options.lenpen:g}; "
            f"with it, {arguments.split}:\n"
        )
    scores, output = evaluate(
        model,
        arguments.data,
        split=arguments.split,
        options=options,
        reference=arguments.reference,
        output=arguments.output,
        command=typed_command(),
        tuning=tuning.to_json() if tuning else None,
    )
    print(scores.table())
    weights = describe_weights([path.name for path in model.inputs], model.updates)
    print(f"\nscored: {weights}\nsaved in {output}")
