"""Files and folders of data sets.

Links are followed, because data sets are often put together from them. Only regular files are
opened: opening a fifo or a device may block for ever.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Collection
from pathlib import Path

from fairseq_cgc.core import UserError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def find_images(folder: str | Path, closed: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """The images in a folder and in the folders below it, without hidden ones.

    No folder is read twice. Links to folders are followed unless they form a loop, that is, lead
    to a folder around the link.

    Args:
        folder: where to look.
        closed: real paths of folders that links must not lead to either.

    Returns:
        The images, sorted, and what was left out: loops, and names of images that are broken
        links, fifos, sockets or devices.

    Raises:
        UserError: naming a folder that cannot be read.
    """
    images: list[str] = []
    others: list[str] = []
    real = os.path.realpath(folder)
    seen = {real}
    # Path, real path, and the real paths of the links' targets on the way to it.
    folders: deque[tuple[str, str, tuple[str, ...]]] = deque([(str(folder), real, (real,))])
    links: deque[tuple[str, str, tuple[str, ...]]] = deque()
    while folders or links:
        if not folders:
            path, real, way = links.popleft()
            if real in seen:
                continue
            if real in closed or any(Path(target).is_relative_to(real) for target in way):
                others.append(path)
                continue
            seen.add(real)
            folders.append((path, real, (*way, real)))
        path, real, way = folders.popleft()
        for entry in entries(path):
            if entry.is_dir(follow_symlinks=False):
                inner = str(Path(real, entry.name))
                if inner not in seen:
                    seen.add(inner)
                    folders.append((entry.path, inner, way))
            elif entry.is_symlink() and is_folder(entry.path):
                links.append((entry.path, os.path.realpath(entry.path), way))
            elif entry.name.lower().endswith(SUFFIXES):
                regular = entry.is_file(follow_symlinks=False) or is_file(entry.path)
                (images if regular else others).append(entry.path)
    return sorted(images), sorted(others)


def is_folder(path: str | Path) -> bool:
    """Whether a path leads to a folder; ``Path.is_dir`` may raise before Python 3.13."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: str | Path) -> bool:
    """Whether a path leads to a regular file; ``Path.is_file`` may raise before Python 3.13."""
    return os.path.isfile(path)  # noqa: PTH113


def entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """What a folder holds, sorted by name, without hidden files.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            visible = [entry for entry in found if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror or error})") from error
    return sorted(visible, key=lambda entry: entry.name)


def demand_file(path: str | Path) -> None:
    """Raise :class:`UserError`, with the reason, unless a path leads to a regular file."""
    try:
        regular = stat.S_ISREG(Path(path).stat().st_mode)
    except (OSError, ValueError) as error:  # ValueError: a null character
        broken = isinstance(error, FileNotFoundError) and Path(path).is_symlink()
        problem = "a broken link" if broken else getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({problem})") from error
    if not regular:
        raise UserError(f"{path}: cannot be read (not a regular file)")


def read_text(path: Path) -> str:
    r"""A text file in UTF-8, with or without a byte-order mark; lines end in ``\n`` only.

    Raises:
        UserError: if it cannot be read, or is in another encoding.
    """
    demand_file(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from error
