"""Average checkpoints of a fairseq training.

    fairseq-cgc average SAVE_DIR --last-epochs 10 --output average.pt
    fairseq-cgc average a.pt b.pt c.pt --output average.pt

The result is for evaluation and translation: it has no optimizer state. An existing average is
replaced; any other existing file is not.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="SAVE_DIR_OR_FILE",
        help="a --save-dir of fairseq-train, or the checkpoints themselves",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="checkpoint to write"
    )
    add_selection(parser.add_mutually_exclusive_group())


def add_selection(group: Any) -> None:
    """Add the options that select the checkpoints of a folder."""
    for option, help_ in (
        ("--last-epochs", "average the checkpoints of the last N epochs"),
        ("--last-updates", "average the last N checkpoints saved within epochs"),
        ("--best", "average the N best checkpoints by validation"),
    ):
        group.add_argument(option, type=int, metavar="N", help=help_)


def selection_of(arguments: argparse.Namespace) -> dict[str, int]:
    """Those options of :func:`add_selection` that were given."""
    names = ("last_epochs", "last_updates", "best")
    given = {name: getattr(arguments, name) for name in names}
    return {name: number for name, number in given.items() if number is not None}


def run(arguments: argparse.Namespace) -> None:
    """Write the average."""
    from fairseq_cgc.mt.train.averaging import average, check_may_be_replaced, select_checkpoints
    from fairseq_cgc.support.errors import UserError

    selection = selection_of(arguments)
    if len(arguments.inputs) == 1 and arguments.inputs[0].is_dir():
        paths = select_checkpoints(arguments.inputs[0], **selection)
    elif selection:
        raise UserError(
            "--last-epochs, --last-updates and --best need a single folder of checkpoints"
        )
    else:
        paths = arguments.inputs
    check_may_be_replaced(arguments.output)
    average(paths, arguments.output)
    print(f"{arguments.output}: average of {', '.join(path.name for path in paths)}")
