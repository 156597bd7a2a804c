"""Folders made with known settings: used by one process at a time, and not made twice.

A record of the settings stands in the folder. Where it equals the settings asked for, the work is
skipped or continued. Where it differs, the work is refused rather than done again, because
somebody may have trained on the folder.
"""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import new_folder, write_json

logger = logging.getLogger(__name__)

_STAMP = "stamp.json"


@contextmanager
def only_process_in(out: Path) -> Iterator[None]:
    """Make ``out``, and wait until no other process works there.

    A new folder that is still empty at the end (the work failed at once) is removed again.

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
            # Closing the file is not enough while a forked process still has it open.
            fcntl.flock(lock, fcntl.LOCK_UN)


def make_step(
    folder: Path, settings: Mapping[str, Any], make: Callable[[Path], dict[str, Any]]
) -> None:
    """Make a step's folder with its record, all or nothing.

    Args:
        folder: must not exist.
        settings: what :func:`is_done` will compare; JSON values.
        make: fills the temporary folder that it is given, and returns counts for
            :func:`read_counts`.
    """
    logger.info("making %s", folder)
    with new_folder(folder) as partial:
        write_json(partial / _STAMP, {"settings": settings, "counts": make(partial)})


def is_done(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a step's folder exists and was made with the same settings.

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


def read_counts(folder: Path) -> dict[str, Any]:
    """What the step's ``make`` returned."""
    return _read_stamp(folder)["counts"]


def _read_stamp(folder: Path) -> dict[str, Any]:
    try:
        stamp = read_record(folder / _STAMP, ("settings", "counts"))
        if isinstance(stamp["settings"], dict) and isinstance(stamp["counts"], dict):
            return stamp
    except UserError:
        pass
    raise UserError(f"{folder} exists, but no preparation made it; it is not overwritten")


def read_record(path: Path, keys: Collection[str] = ()) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: if the file is damaged, or one of ``keys`` is missing.
    """
    try:
        record = dict(json.loads(path.read_text(encoding="utf-8")))
        missing = [key for key in keys if key not in record]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error})") from error
    return record


def demand_record(path: Path, instead: str) -> bool:
    """Whether a training's record exists.

    Args:
        path: of the record.
        instead: what the user can give for another folder.

    Raises:
        UserError: if there are checkpoints beside it, but no record.
    """
    if not path.exists() and any(path.parent.glob("*.pt")):
        raise UserError(f"{path.parent} has checkpoints, but no {path.name}: give {instead}")
    return path.exists()


def differences(found: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The names of the settings that differ, those of ``now`` first; a missing one is None."""
    return (key for key in dict.fromkeys([*now, *found]) if found.get(key) != now.get(key))


def refusal(
    folder: Path, made: str, found: object, now: object, *, instead: str = "another output folder"
) -> UserError:
    """The error for a folder that was made with other settings.

    Args:
        folder: that was made.
        made: how it was made, up to the value: ``made with size =``.
        found, now: the value that it was made with, and the one that was asked for.
        instead: what the user can give for another folder.
    """
    return UserError(
        f"{folder} was {made} {found}, now it is {now}; give {instead}, or remove this one"
    )
