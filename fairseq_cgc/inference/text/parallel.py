"""One function over many lines, in several processes, results in order."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from fairseq_cgc.support.errors import UserError

LineFunction = Callable[[str], str]

#: More processes than this help nobody, and may bring the machine down.
MAX_WORKERS = max(32, 4 * (os.cpu_count() or 1))

_CHUNK = 500  # lines sent to a process at a time
_function: LineFunction | None = None  # of a worker process


def check_workers(workers: int) -> None:
    """Raise UserError for a number of processes that cannot be right."""
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle, once
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # An executor's processes would wait for work for ever if their parent were killed.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _apply(make: Callable[[], LineFunction], lines: list[str]) -> list[str]:
    # Not in the initialiser: an error there would be reported without its message.
    global _function
    if _function is None:
        _function = make()
    return [_function(line) for line in lines]
