"""Running fairseq's own commands with this package as their ``--user-dir``."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

from fairseq_cgc.support.errors import UserError

PACKAGE_DIR = Path(__file__).resolve().parent.parent

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_started: WeakSet[subprocess.Popen[bytes]] = WeakSet()


def merge_options(options: Sequence[str]) -> dict[str, list[str]]:
    """Map options to their values; a later option replaces an earlier one of the same name."""
    merged: dict[str, list[str]] = {}
    name = ""
    for word in options:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            merged[name] = [value] if equals else []
        else:
            merged[name].append(word)
    return merged


def as_words(options: Mapping[str, Sequence[str]]) -> list[str]:
    """The inverse of :func:`merge_options`."""
    return [word for name, values in options.items() for word in (name, *values)]


def fairseq_command(name: str, arguments: Sequence[str | Path]) -> list[str]:
    """The argument vector of ``fairseq-NAME`` with this package as its ``--user-dir``.

    Args:
        name: ``preprocess``, ``train``, ``generate``, ``interactive``, ``validate``.
        arguments: everything after the command's name.
    """
    # -P, as for fairseq-NAME: a file called tokenize.py in the working folder is not Python's.
    command = [sys.executable, "-P", "-m", f"fairseq_cli.{name}", *map(str, arguments)]
    return [*command, "--user-dir", str(PACKAGE_DIR)]


def shown_command(name: str, arguments: Sequence[str | Path]) -> str:
    """The command line of :func:`fairseq_command` for a user's shell: ``fairseq-NAME ...``."""
    words = [*map(str, arguments), "--user-dir", str(PACKAGE_DIR)]
    return f"fairseq-{name} {shlex.join(words)}"


def start_fairseq(
    name: str, arguments: Sequence[str | Path], **options: Any
) -> subprocess.Popen[bytes]:
    """Start a fairseq command that, on Linux, is killed when this process ends.

    Otherwise a training whose caller was killed would continue, and the next call would start a
    second one in the same folder.

    Args:
        name, arguments: see :func:`fairseq_command`.
        options: of ``subprocess.Popen``.
    """
    parent = os.getpid()

    def end_with_parent() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the call
            os._exit(1)

    command = fairseq_command(name, arguments)
    process = subprocess.Popen(command, preexec_fn=end_with_parent, **options)
    _started.add(process)
    return process


def stop_fairseq() -> None:
    """End everything that :func:`start_fairseq` has started; threads that wait for it go on."""
    for process in list(_started):
        if process.poll() is None:
            process.terminate()


def run_fairseq(name: str, arguments: Sequence[str | Path], *, log: Path) -> None:
    """Run a fairseq command to its end and write its output to ``log``.

    Raises:
        UserError: if the command fails; its last line is part of the message.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w", encoding="utf-8") as stream,
        start_fairseq(name, arguments, stdout=stream, stderr=subprocess.STDOUT) as process,
    ):
        process.wait()
    if process.returncode != 0:
        raise fairseq_error(name, log)


def fairseq_error(name: str, log: Path) -> UserError:
    """The error to raise when ``fairseq-NAME`` has failed; it quotes the last line of ``log``."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return UserError(f"fairseq-{name} failed: {lines[-1] if lines else ''} (see {log})")
