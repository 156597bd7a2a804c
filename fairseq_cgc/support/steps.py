"""Steps of a preparation: folders that are whole or absent, and are not made twice.

A step's folder appears under its name only when it is complete, with a stamp of the settings
and inputs that it was made from. The same settings skip the step. Others are refused rather
than made again, because somebody may have trained on the folder.
"""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import new_folder, write_json
from fairseq_cgc.support.settings_record import differences, refusal

logger = logging.getLogger(__name__)

_STAMP = "stamp.json"


@contextmanager
def only_process_in(out: Path) -> Iterator[None]:
    """Make ``out`` and wait until no other process works there.

    A folder that was made for nothing (the work failed at once) is removed again.

    Raises:
        UserError: if ``out`` cannot be made or written in.
    """
    path = out / ".lock"
    is_new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = path.open("a")
    except OSError as error:
        raise UserError(f"{out}: not a folder to write in ({error.strerror or error})") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for another process that works in %s", out)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            if is_new and [*out.iterdir()] == [path]:
                path.unlink()
                out.rmdir()
            # Closing alone would not do while a forked process still has the file open.
            fcntl.flock(lock, fcntl.LOCK_UN)


def is_done(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a step's folder is there, made with the same settings.

    Raises:
        UserError: if it was made with other settings, or not by :func:`make_step`.
    """
    if not folder.exists():
        return False
    found = _read_stamp(folder)["settings"]
    for name in differences(found, settings):
        raise refusal(folder, f"made with {name} =", found.get(name), settings.get(name))
    logger.info("%s is complete; not made again", folder)
    return True


def make_step(
    folder: Path, settings: Mapping[str, Any], make: Callable[[Path], dict[str, Any]]
) -> None:
    """Make ``folder`` with its stamp, all or nothing.

    Args:
        folder: must not exist.
        settings: what :func:`is_done` will compare; JSON values.
        make: fills the temporary folder that it is given and returns counts for
            :func:`read_counts`.
    """
    logger.info("making %s", folder)
    with new_folder(folder) as partial:
        stamp = {"settings": settings, "counts": make(partial)}
        write_json(partial / _STAMP, stamp)


def read_counts(folder: Path) -> dict[str, Any]:
    """What the step's ``make`` returned."""
    return _read_stamp(folder)["counts"]


def _read_stamp(folder: Path) -> dict[str, Any]:
    try:
        stamp = json.loads((folder / _STAMP).read_text(encoding="utf-8"))
        if isinstance(stamp["settings"], dict) and isinstance(stamp["counts"], dict):
            return stamp
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{folder} exists, but no preparation made it; it is not overwritten")
