"""``fairseq-cgc COMMAND``, which is the same as ``python -m fairseq_cgc COMMAND``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import fairseq_cgc
from fairseq_cgc import commands
from fairseq_cgc.support.command_line import CommandParser, did_you_mean, run_main
from fairseq_cgc.support.errors import UserError


def main(words: Sequence[str] | None = None) -> None:
    """Run the command that ``words`` name; by default what the user typed.

    Raises:
        UserError: if there is no such command, it fails, or a package that it needs is missing.
    """
    name, *rest = (sys.argv[1:] if words is None else list(words)) or ["--help"]
    if name in ("-h", "--help"):
        print(commands.overview())
    elif name == "--version":
        print(f"fairseq-cgc {fairseq_cgc.__version__}")
    elif name not in commands.NAMES:
        suggestion = did_you_mean(name, commands.NAMES)
        raise UserError(f"there is no command {name!r}{suggestion or '; see fairseq-cgc --help'}")
    else:
        try:
            _run(name, rest)
        except ImportError as error:  # of an optional package; the message says which
            if (error.name or "").partition(".")[0] == "fairseq_cgc":
                raise
            raise UserError(str(error)) from error


def _run(name: str, words: Sequence[str]) -> None:
    command = commands.load(name)
    parser = CommandParser(prog=f"fairseq-cgc {name}", description=command.__doc__)
    command.add_arguments(parser)
    command.run(parser.parse_args(words))


def cli_main() -> None:
    """What the shell's ``fairseq-cgc`` calls."""
    run_main(main)


if __name__ == "__main__":
    cli_main()
