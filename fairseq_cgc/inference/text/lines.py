"""Lines of UTF-8 text, plain or gzip, and a function applied to many of them in processes.

Only the newline byte ends a line: Unicode's other separators, which ``str.splitlines`` and Python's
text mode obey, are ordinary characters, so that both sides of parallel text stay aligned.
"""

from __future__ import annotations

import functools
import gzip
import itertools
import multiprocessing
import os
import signal
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
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
        name: what messages call the stream.

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
    """Drop a byte-order mark at the start, and the carriage return at the end of each line."""
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


LineFunction = Callable[[str], str]

#: More processes than this never help, and may exhaust the machine.
MAX_WORKERS = max(32, 4 * (os.cpu_count() or 1))

_CHUNK = 500  # lines sent to a process at a time
_function: LineFunction | None = None  # of a worker process


def check_workers(workers: int) -> None:
    """Raise a UserError if the number of processes is out of range."""
    if not 1 <= workers <= MAX_WORKERS:
        raise UserError(f"--workers is {workers}, but must be from 1 to {MAX_WORKERS}")


def map_lines(
    make: Callable[[], LineFunction], lines: Iterable[str], workers: int
) -> Iterator[str]:
    """Yield ``make()(line)`` for each line, in order.

    Args:
        make: builds the function once in every process (so that models need not be sent);
            must be picklable, as ``functools.partial`` of something at module level is.
        lines: any iterable; it is read only a few chunks ahead of what is yielded.
        workers: number of processes; 1 works in this process, one line at a time.

    Raises:
        UserError: if a process is killed; also whatever ``make`` and its function raise.
    """
    if workers <= 1:
        yield from map(make(), lines)
        return
    iterator = iter(lines)
    pending: deque[Future[list[str]]] = deque()
    pool = ProcessPoolExecutor(workers, initializer=_start)
    try:
        while chunk := list(itertools.islice(iterator, _CHUNK)):
            pending.append(pool.submit(_apply, make, chunk))
            if len(pending) > 2 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            f"one of {workers} worker processes was killed (out of memory?); try fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # If the parent is killed, an executor's processes would wait for work forever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _apply(make: Callable[[], LineFunction], lines: list[str]) -> list[str]:
    # Not in the initialiser, whose errors are reported without their message.
    global _function
    if _function is None:
        _function = make()
    return [_function(line) for line in lines]
