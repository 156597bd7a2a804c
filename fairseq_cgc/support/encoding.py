"""Text in and out of a command is UTF-8, whatever the locale says."""

from __future__ import annotations

import codecs
import io
import locale
import multiprocessing
import os
import sys
from pathlib import Path

from fairseq_cgc.support.errors import UserError

_SWITCH = "PYTHONUTF8"


def use_utf8(folder: Path | None = None) -> None:
    """Make UTF-8 the encoding of this program's standard streams and of the files it opens.

    Libraries open text files in the encoding of the locale, which a process cannot change: where
    that is another one, this starts the same command again in Python's UTF-8 mode.

    Args:
        folder: where the command was started, if that is no longer the working folder.

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
