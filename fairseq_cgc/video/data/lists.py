"""List files of videos, as TSN's and TSM's tools write them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.tree import read_text


@dataclass(frozen=True)
class Video:
    """A line of a list file.

    Attributes:
        path: of the folder of frames.
        frames: their number.
        label: of the class, counted from 0.
        where: list file and line, for messages.
    """

    path: str
    frames: int
    label: int
    where: str


def read_list(path: Path, classes: int | None = None) -> list[Video]:
    """Read lines of ``path num_frames label``; the path may have spaces in it.

    Args:
        path: of the list file.
        classes: their number; ``None``: any label is right.

    Raises:
        UserError: if the file cannot be read or is empty, or a line is of another form, naming
            the line.
    """
    videos = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        words = line.rsplit(maxsplit=2)
        if len(words) != 3 or not all(word.isascii() and word.isdigit() for word in words[1:]):
            raise UserError(f"{where} is {line[:80]!r}, but must be: path num_frames label")
        video = Video(words[0].strip(), int(words[1]), int(words[2]), where)
        if video.frames < 1:
            raise UserError(f"{where}: {video.path} has no frames; leave it out")
        if classes is not None and video.label >= classes:
            raise UserError(
                f"{where}: the label is {video.label}, but there are {classes} classes, "
                "counted from 0"
            )
        videos.append(video)
    if not videos:
        raise UserError(f"{path} lists no videos")
    return videos


def read_classes(path: Path) -> tuple[str, ...]:
    """The names of the classes, one a line, in the order of the labels.

    Raises:
        UserError: if the file cannot be read, or has an empty line or none at all.
    """
    names = [line.strip() for line in _lines(path)]
    if not names:
        raise UserError(f"{path} names no classes")
    if "" in names:
        raise UserError(f"{path}, line {names.index('') + 1} is empty, but must name a class")
    return tuple(names)


def _lines(path: Path) -> list[str]:
    # Not splitlines(), to which a name may hold ends of lines.
    lines = read_text(path).split("\n")
    return lines if lines[-1] else lines[:-1]
