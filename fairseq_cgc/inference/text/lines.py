"""Lines of text: UTF-8, plain or gzip, one sentence a line.

Only the newline byte ends a line: Unicode's other separators, which ``str.splitlines`` and Python's
text mode obey, are ordinary characters, so that both sides of parallel text stay aligned.
"""

from __future__ import annotations

import functools
import gzip
import itertools
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import new_file

#: Longer lines are rejected: not text, or a decompression bomb.
MAX_LINE_BYTES = 16 << 20


def decode_lines(stream: BinaryIO, name: str) -> Iterator[str]:
    """Yield the lines of a binary stream as text, without their newline.

    Args:
        stream: open for reading.
        name: of the stream, for messages.

    Raises:
        UserError: at the first line that is not UTF-8, or longer than :data:`MAX_LINE_BYTES`,
            with its number.
    """
    lines = iter(functools.partial(stream.readline, MAX_LINE_BYTES + 1), b"")
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE_BYTES:
            raise UserError(
                f"{name}, line {number}: longer than {MAX_LINE_BYTES >> 20} MiB, so not text"
            )
        try:
            yield line.decode("utf-8").removesuffix("\n")
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise UserError(
                f"{name}, line {number}: not UTF-8 (byte 0x{byte:02x}, number {error.start + 1} "
                "of the line)"
            ) from error


def text_lines(lines: Iterable[str]) -> Iterator[str]:
    """Drop what editors put around lines: a byte-order mark at the start, carriage returns."""
    iterator = iter(lines)
    for first in itertools.islice(iterator, 1):
        yield first.removeprefix("\ufeff").removesuffix("\r")
    for line in iterator:
        yield line.removesuffix("\r")


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of ``path`` (gzip if its name ends in ``.gz``) without their newline.

    A byte-order mark at the start and a carriage return before a newline are dropped.

    Raises:
        UserError: if the file is missing, not UTF-8 (with the line's number), or its gzip
            stream is damaged.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            yield from text_lines(decode_lines(cast(BinaryIO, stream), str(path)))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: truncated or damaged gzip file ({error})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write ``lines`` with ``\\n`` after each, all or nothing, and return their number."""
    count = 0
    with new_file(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as stream:
        for line in lines:
            stream.write(line + "\n")
            count += 1
    return count
