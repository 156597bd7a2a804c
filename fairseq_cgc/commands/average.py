"""Average checkpoints of a fairseq training.

    fairseq-cgc average SAVE_DIR --last-epochs 10 --output average.pt
    fairseq-cgc average a.pt b.pt c.pt --output average.pt

The result is for evaluation and translation: it has no optimizer state. An existing average is
replaced; any other existing file is not.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="SAVE_DIR_OR_FILE",
        help="a --save-dir of fairseq-train, or the checkpoints themselves",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="checkpoint to write"
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--last-epochs", type=int, metavar="N", help="the checkpoints of the last N epochs"
    )
    choice.add_argument(
        "--last-updates", type=int, metavar="N", help="the last N checkpoints saved within epochs"
    )
    choice.add_argument(
        "--best", type=int, metavar="N", help="the N best checkpoints by validation"
    )


def run(arguments: argparse.Namespace) -> None:
    """Write the average."""
    from fairseq_cgc.mt.train.averaging import average, check_may_be_replaced, select_checkpoints
    from fairseq_cgc.support.errors import UserError

    selection = {key: getattr(arguments, key) for key in ("last_epochs", "last_updates", "best")}
    chosen = any(number is not None for number in selection.values())
    if len(arguments.inputs) == 1 and arguments.inputs[0].is_dir():
        paths = select_checkpoints(arguments.inputs[0], **selection)
    elif chosen:
        raise UserError(
            "--last-epochs, --last-updates and --best need a single folder of checkpoints"
        )
    else:
        paths = arguments.inputs
    check_may_be_replaced(arguments.output)
    average(paths, arguments.output)
    print(f"{arguments.output}: average of {', '.join(path.name for path in paths)}")
