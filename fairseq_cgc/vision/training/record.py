"""The record of a training's settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairseq_cgc.core import UserError
from fairseq_cgc.support.files import write_json

RECORD = "settings.json"


def keep_record(
    folder: Path, record: Mapping[str, Any], earlier: Mapping[str, Any] | None = None
) -> None:
    """Note what a training in ``folder`` is made with; refuse to go on with anything else.

    Without checkpoints there is nothing to go on with: an earlier record is replaced.

    Args:
        folder: of the training; it must exist.
        record: JSON values.
        earlier: those that earlier records do not name.

    Raises:
        UserError: naming the first value that differs, if another training is there.
    """
    path = folder / RECORD
    if not any(folder.glob("*.pt")):
        write_json(path, record)
        return
    if not path.exists():
        raise UserError(f"{folder} has checkpoints, but no {RECORD}: give another --out")
    try:
        found = {**(earlier or {}), **json.loads(path.read_text(encoding="utf-8"))}
        names = dict.fromkeys([*record, *found])
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error})") from error
    now = json.loads(json.dumps(record))  # a tuple is a list there
    for name in names:
        if found.get(name) != now.get(name):
            raise UserError(
                f"{folder} was trained with {name} {_shown(found.get(name))}, now it is "
                f"{_shown(now.get(name))}; give another --out, or remove this one"
            )


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}..."
