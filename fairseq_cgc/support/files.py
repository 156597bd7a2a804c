"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairseq_cgc.support.errors import UserError

_BLOCK = 1 << 20  # bytes read at a time


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` only if all went well.

    Temporary files of killed processes that wrote the same file are removed.

    Raises:
        UserError: if the file cannot be written (rights, space), or is a device or a folder.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: cannot be written (it is no regular file)")
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        yield partial
        with partial.open("rb") as stream:  # on the disk before the old one is gone
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary folder beside ``path``; rename it only if all went well.

    A temporary folder that a killed run left is removed first.

    Raises:
        UserError: if ``path`` exists already, or cannot be made (rights, space).
    """
    if path.exists():
        raise UserError(f"{path}: exists already and is not overwritten")
    partial = path.with_name(f"{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be made ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()


def file_stamps(paths: Iterable[Path]) -> list[list[Any]]:
    """Name, size in bytes and time of change (ns) of every file, to tell whether files changed."""
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, with as many of the folders above it as tell all paths apart."""
    parts = [path.absolute().parts for path in paths]
    number = 1
    while len({part[-number:] for part in parts}) < len(set(parts)):
        number += 1
    return [str(Path(*part[-number:])) for part in parts]


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, all or nothing."""
    with new_file(path) as partial:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        # File names need not be UTF-8; Python's escapes for such bytes are valid JSON.
        partial.write_text(text, "utf-8", errors="backslashreplace")


def _remove_leftovers(path: Path) -> None:
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        process = left.name.split(".")[-2]
        if process.isdecimal() and not _is_running(int(process)):
            left.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name != "posix":  # there, os.kill would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OverflowError, PermissionError):
        pass
    return True
