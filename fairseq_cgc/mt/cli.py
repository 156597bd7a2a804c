"""What every script of ours shares: one-line errors and running fairseq's own commands."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fairseq_cgc.core.errors import UserError

PACKAGE_DIR = Path(__file__).resolve().parent.parent


def run_main(main: Callable[[], None]) -> None:
    """Call ``main``; a :class:`UserError` ends the program with one line and status 1."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("fairseq_cgc").setLevel(logging.INFO)  # fairseq's own would drown ours
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(130)


def fairseq_command(name: str, arguments: Sequence[str | Path]) -> list[str]:
    """The argument vector of ``fairseq-NAME`` with this package as its ``--user-dir``.

    Args:
        name: ``preprocess``, ``train``, ``generate``, ``interactive``, ``validate``.
        arguments: everything after the command's name.
    """
    command = [sys.executable, "-m", f"fairseq_cli.{name}", *map(str, arguments)]
    return [*command, "--user-dir", str(PACKAGE_DIR)]


def run_fairseq(name: str, arguments: Sequence[str | Path], *, log: Path) -> None:
    """Run a fairseq command to its end, its output in ``log``.

    Raises:
        UserError: if the command fails; its last line is part of the message.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream:
        command = fairseq_command(name, arguments)
        status = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT).returncode
    if status != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise UserError(f"fairseq-{name} failed: {lines[-1] if lines else ''} (see {log})")
