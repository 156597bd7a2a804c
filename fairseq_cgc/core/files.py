"""Files written whole or not at all, and read without running code."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from fairseq_cgc.core.errors import UserError


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` only if all went well.

    Raises:
        UserError: if the file cannot be written (rights, space).
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as stream:  # on the disk before the old one is gone
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, all or nothing."""
    with new_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_safely(path: Path) -> Any:
    """``torch.load`` of tensors and plain values only, onto the CPU.

    Raises:
        UserError: if the file is missing, damaged or asks to run code.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # a damaged file fails in as many ways as there are bytes
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and refused:
            raise UserError(f"{path} is refused: it asks to run or build {refused[1]}") from None
        raise UserError(f"{path} is damaged, or not a checkpoint at all") from None
