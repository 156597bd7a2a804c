"""Side-by-side measurements: interleaved rounds, medians with quartiles, peak memory.

On a GPU there are two kinds of time: that of a call among others of its kind (:func:`interleave`),
which is the program's where it is the slower of the two, and the GPU's alone (:func:`gpu_times`).
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

# A GPU runs behind the program: so long a burst that waiting for its end does not count.
BURST_SECONDS = 0.01
# What is written between two runs so that no cache holds their data: more than any GPU's has.
FLUSHED_BYTES = 2**28


@dataclass(frozen=True)
class Times:
    """Seconds of one contender."""

    median: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""

    def __str__(self) -> str:
        """Milliseconds, with the quartiles."""
        digits = 1 if self.median >= 0.001 else 4
        low, middle, high = (f"{1000 * s:.{digits}f}" for s in (self.low, self.median, self.high))
        return f"{middle} ({low} to {high})"


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    least: int = 5,
    device: str = "cpu",
) -> dict[str, Times]:
    """Time each contender once a round, in turn, so that a change of the machine's speed hits all.

    Args:
        contenders: name -> what to run.
        seconds: for all rounds together, about.
        least: rounds at least, after one to warm up.
        device: on "cuda" a turn is a burst of runs.
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    runs = {name: _runs_of_a_turn(run, device) for name, run in contenders.items()}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds <= least or time.perf_counter() < end:
        for name, run in contenders.items():
            taken = _seconds(run, runs[name], device)
            if rounds > 0:
                found[name].append(taken)
        rounds += 1
    return {name: summary(values) for name, values in found.items()}


def gpu_times(
    contenders: Mapping[str, Callable[[], object]], *, seconds: float, least: int = 10
) -> dict[str, Times]:
    """The time that a GPU needs for each contender, nothing of its data in a cache.

    Before a run the GPU is given other work, so long that the run's has been handed over before
    the GPU comes to it: the program's own time does not count.

    Args:
        contenders: name -> what to run.
        seconds: for all rounds together, about.
        least: rounds at least.
    """
    flushed = torch.empty(FLUSHED_BYTES, dtype=torch.uint8, device="cuda")
    flush_seconds = _seconds(flushed.zero_, 10, "cuda")
    flushes = {}
    for name, run in contenders.items():
        run()
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        flushes[name] = 1 + math.ceil(2 * (time.perf_counter() - start) / flush_seconds)
    found: dict[str, list[float]] = {name: [] for name in contenders}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < least or time.perf_counter() < end:
        for name, run in contenders.items():
            events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            torch.cuda.synchronize()
            for _ in range(flushes[name]):
                flushed.zero_()
            events[0].record()
            run()
            events[1].record()
            events[1].synchronize()
            found[name].append(events[0].elapsed_time(events[1]) / 1000)
        rounds += 1
    return {name: summary(values) for name, values in found.items()}


def summary(values: list[float]) -> Times:
    """Median and quartiles of one or more values."""
    if len(values) == 1:
        return Times(*values * 3)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Times(median, low, high)


def _runs_of_a_turn(run: Callable[[], object], device: str) -> int:
    if device == "cpu":
        return 1
    run()  # compiles what is compiled at first use
    return max(1, int(BURST_SECONDS / _seconds(run, 3, device)))


def _seconds(run: Callable[[], object], runs: int, device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(runs):
        run()
    if device != "cpu":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / runs


def peak_memory(run: Callable[[], object], device: str = "cpu", *, fork: bool = True) -> float:
    """MiB that a run adds at most to what was there before; on a CPU only under Linux.

    Args:
        run: what is measured.
        device: "cpu" or "cuda".
        fork: whether a run on a CPU gets a process of its own, in which it must do with one thread.
            Without, the runs that follow take their memory from the system anew.
    """
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    if not fork:
        return _added(run)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_added, args=(run, sender))
    process.start()
    sender.close()
    taken = receiver.recv()
    process.join()
    return taken


def _send_added(run: Callable[[], object], sender: Any) -> None:
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    sender.send(_added(run))


def _added(run: Callable[[], object]) -> float:
    # Free memory goes back to the system and the peak is reset, else earlier runs would count.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _kibibytes("VmRSS")
    run()
    return (_kibibytes("VmHWM") - before) / 1024


def _kibibytes(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith(name))
    return int(line.split()[1])
