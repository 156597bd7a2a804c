"""Commands that were scripts: the old names work until the next version."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the checkout, as it was found before

from fairseq_cgc.__main__ import main  # noqa: E402
from fairseq_cgc.support.command_line import run_main  # noqa: E402


def run(command: str) -> None:
    """Run ``fairseq-cgc COMMAND`` with what the script was given."""
    script = Path(sys.argv[0]).name
    print(f"scripts/{script} is now: fairseq-cgc {command}", file=sys.stderr)
    run_main(lambda: main([command, *sys.argv[1:]]))
