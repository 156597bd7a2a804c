"""Side-by-side measurements: interleaved rounds, medians with quartiles, peak memory."""

from __future__ import annotations

import ctypes
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Times:
    """Seconds of one contender."""

    median: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""


def interleave(
    contenders: Mapping[str, Callable[[], object]], *, seconds: float, least: int = 5
) -> dict[str, Times]:
    """Time each contender once a round, in turn, so that a change of the machine's speed hits all.

    Args:
        contenders: name -> what to run.
        seconds: for all rounds together, about.
        least: rounds at least, after one to warm up.
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds <= least or time.perf_counter() < end:
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if rounds > 0:
                found[name].append(time.perf_counter() - start)
        rounds += 1
    quartiles = {name: statistics.quantiles(values, n=4) for name, values in found.items()}
    return {name: Times(q[1], q[0], q[2]) for name, q in quartiles.items()}


def peak_memory(run: Callable[[], object]) -> float:
    """MiB that a run adds at most to what was there before, in a process of its own (Linux)."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(run, sender))
    process.start()
    sender.close()
    taken = receiver.recv()
    process.join()
    return taken


def _measure(run: Callable[[], object], sender: Any) -> None:
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    # Free memory goes back to the system and the peak is reset, else earlier runs would count.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _kibibytes("VmRSS")
    run()
    sender.send((_kibibytes("VmHWM") - before) / 1024)


def _kibibytes(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith(name))
    return int(line.split()[1])
