"""Made with the same settings? The record beside what was made, and its first difference."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from fairseq_cgc.support.errors import UserError


def read_record(path: Path, keys: Collection[str] = ()) -> dict[str, Any]:
    """A JSON object.

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
    """Whether a training's record is there; without one, checkpoints beside it are a mistake.

    Args:
        path: of the record.
        instead: what to give for another folder.

    Raises:
        UserError: if there are checkpoints, but no record.
    """
    if not path.exists() and any(path.parent.glob("*.pt")):
        raise UserError(f"{path.parent} has checkpoints, but no {path.name}: give {instead}")
    return path.exists()


def differences(found: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The settings that differ, those of ``now`` first; a missing one is None."""
    return (key for key in dict.fromkeys([*now, *found]) if found.get(key) != now.get(key))


def refusal(
    folder: Path, made: str, found: object, now: object, *, instead: str = "another output folder"
) -> UserError:
    """Why a folder that was made with other settings is not used.

    Args:
        folder: that was made.
        made: how, up to the value: ``made with size =``.
        found, now: the value it was made with, and the one that was asked for.
        instead: what to give for another folder.
    """
    return UserError(
        f"{folder} was {made} {found}, now it is {now}; give {instead}, or remove this one"
    )
