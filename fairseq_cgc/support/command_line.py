"""Shared by all commands: the parser, errors in one line, and text on standard output."""

from __future__ import annotations

import argparse
import codecs
import difflib
import io
import locale
import logging
import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from fairseq_cgc.support.errors import UserError

#: Exit status when the reader of the output is gone, as in "... | head": 128 + SIGPIPE.
_BROKEN_PIPE = 141


def run_main(main: Callable[[], None]) -> None:
    """Call ``main``; a :class:`UserError` or ``OSError`` ends the program with one line, status 1.

    If the reader of the output stops early, as in ``... | head``, it ends without a message.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the caller (<&- or >&-)
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("fairseq_cgc").setLevel(logging.INFO)  # not fairseq, which logs too much
    for stream in (sys.stdout, sys.stderr):  # a file may have a name that is not UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            use_utf8()
            main()
        finally:
            _flush_output()
    except BrokenPipeError:
        sys.exit(_BROKEN_PIPE)
    except (UserError, OSError) as error:  # OSError: a full disk, rights, a name that is too long
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(130)


def _flush_output() -> None:
    """Write out what was printed; if that fails, let Python not try it again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def printable(text: str) -> str:
    """Text for one line of a terminal: escapes for line ends, control and format characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_lines(lines: Iterable[str], *, at_once: bool) -> None:
    """Write lines, given without newlines, to standard output in UTF-8.

    Args:
        lines: to write.
        at_once: write out each line as soon as it is there, not when a buffer is full.
    """
    for line in lines:
        sys.stdout.buffer.write(line.encode() + b"\n")
        if at_once:
            sys.stdout.buffer.flush()
    sys.stdout.buffer.flush()


def typed_command() -> list[str]:
    """The command that the user typed, for the record of a result."""
    return ["fairseq-cgc", *sys.argv[1:]]


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """``"; did you mean NAME?"`` if one of ``names`` resembles ``word``, else nothing."""
    close = difflib.get_close_matches(word, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else ""


class CommandParser(argparse.ArgumentParser):
    """A parser that keeps the line breaks of its description and helps with misspelt options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **options})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in the base class, but subcommands report unknown arguments themselves."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, and exit with status 2."""
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        if unknown:
            message += did_you_mean(unknown[1], re.findall(r"--[\w-]+", self.format_usage()))
        super().error(printable(message))


_SWITCH = "PYTHONUTF8"


def use_utf8(folder: Path | None = None) -> None:
    """Make UTF-8 the encoding of this program's standard streams and of the files it opens.

    Libraries open text files in the encoding of the locale, which a process cannot change. Where
    that is another one, this starts the same command again in Python's UTF-8 mode.

    Args:
        folder: where the command was started, if the working folder has changed since.

    Raises:
        UserError: if Python's UTF-8 mode cannot be switched on from here.
    """
    encoding = locale.getpreferredencoding(False)
    if not _is_utf8(encoding):
        if os.environ.get(_SWITCH) == "1" or multiprocessing.parent_process() is not None:
            raise UserError(
                f"the locale's encoding is {encoding}, but must be UTF-8: start again with "
                f"{_SWITCH}=1 in the environment, or python -X utf8"
            )
        os.environ[_SWITCH] = "1"
        if folder is not None:
            os.chdir(folder)
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not _is_utf8(stream.encoding):
            stream.reconfigure(encoding="utf-8", errors=stream.errors)


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name == "utf-8"
