"""The record of a training's settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairseq_cgc.support.files import write_json
from fairseq_cgc.support.settings_record import demand_record, differences, read_record, refusal

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
    demand_record(path, "another --out")
    found = {**(earlier or {}), **read_record(path)}
    now = json.loads(json.dumps(record))  # a tuple is a list there
    for name in differences(found, now):
        values = (_shown(found.get(name)), _shown(now.get(name)))
        raise refusal(folder, f"trained with {name}", *values, instead="another --out")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}..."
