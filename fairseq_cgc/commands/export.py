"""Write a model as one folder that needs no fairseq.

    fairseq-cgc export CHECKPOINT --data DATA --out FOLDER
    fairseq-cgc export CHECKPOINT --data DATA --out FOLDER --precision int8 --licence mit
    fairseq-cgc translate FOLDER < text

FOLDER needs no data either: it has the weights (safetensors), the dictionaries, the subword model
and a model card with the scores that fairseq-cgc evaluate has left beside the checkpoint.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fairseq_cgc.support.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from fairseq_cgc.inference.precision import PRECISIONS

    parser.add_argument("checkpoint", type=Path, help="a model of lightconv_cgc or lightconv")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DATA_BIN",
        help="the data folder that it was trained on, with dictionaries and preparation.json",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="folder to make; never replaced"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="precision of the weights (%(default)s)",
    )
    parser.add_argument("--licence", metavar="NAME", help="licence of the model, for the card")
    parser.add_argument("--citation", metavar="TEXT", help="how to cite the model, for the card")


def run(arguments: argparse.Namespace) -> None:
    """Write the folder."""
    from fairseq_cgc.inference.exported import export
    from fairseq_cgc.inference.search_options import SearchOptions
    from fairseq_cgc.inference.translator import Translator

    if not arguments.checkpoint.is_file():
        raise UserError(f"{arguments.checkpoint} is not a checkpoint: there is no such file")
    translator = Translator(arguments.checkpoint, arguments.data, SearchOptions(cpu=True))
    scores = _scores(arguments.checkpoint)
    export(
        translator.model,
        translator.languages,
        arguments.data,
        translator.preparation,
        arguments.out,
        precision=arguments.precision,
        scores=scores,
        licence=arguments.licence,
        citation=arguments.citation,
    )
    print(
        f"{arguments.out}: {arguments.precision}, scores of {', '.join(scores) or 'no evaluation'}"
    )


def _scores(checkpoint: Path) -> dict[str, Any]:
    """What :func:`fairseq_cgc.mt.evaluate.evaluation.evaluate` has left beside a checkpoint.

    Returns:
        Split and search (such as ``test.beam6-lenpen1``) to scores; only those of these very
        weights, by their updates: another training may have had a checkpoint of this name.

    Raises:
        UserError: if a record is damaged.
    """
    from fairseq_cgc.mt.train.averaging import updates_of
    from fairseq_cgc.support.checkpoints import load_model_state

    updates = updates_of(load_model_state(checkpoint))
    name, found = checkpoint.name.removesuffix(".pt"), {}
    for path in sorted(checkpoint.parent.glob("*/scores.json")):
        evaluated, _, search = path.parent.name.partition(f"{name}.")
        if evaluated or not search:
            continue
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["updates"] == updates:
                found[search] = record["scores"]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: damaged ({type(error).__name__}: {error})") from error
    return found
