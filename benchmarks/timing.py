"""Measurements side by side: interleaved rounds, medians with quartiles, peak memory.

On a GPU there are two times: that of one call in a series (:func:`interleave`), which is the
program's where the program is slower than the GPU, and that of the GPU alone (:func:`gpu_times`).
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

# A GPU runs behind the program: in a burst of this length, waiting for its end is negligible.
BURST_SECONDS = 0.01
# Written between two runs to evict their data from the caches: more than the cache of any GPU.
FLUSHED_BYTES = 2**28

Contenders = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Settings:
    """The options of ``benchmarks/run.py`` that the sections need."""

    device: str
    """"cpu" or "cuda"."""
    quick: bool
    """Few and small rows."""
    precision: str | None
    """Measure only the rows in this precision."""
    seconds: float
    """For all rounds of one figure, approximately."""
    checkpoint: Path | None
    """A trained model to translate with, besides the untrained ones."""
    data: Path | None
    """Binarised data of that model."""


@dataclass(frozen=True)
class Times:
    """Seconds of one contender."""

    median: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""

    def __str__(self) -> str:
        """Milliseconds with quartiles."""
        digits = 1 if self.median >= 0.001 else 4
        low, middle, high = (f"{1000 * s:.{digits}f}" for s in (self.low, self.median, self.high))
        return f"{middle} ({low} to {high})"


def measure_passes(
    passes: Mapping[str, Contenders], settings: Settings, *, least: int = 5
) -> dict[str, Any]:
    """The seconds of contenders in each pass, and their peak memory in MiB in the last one.

    Returns:
        Pass -> contender -> the fields of :class:`Times`, and ``peak_mib`` -> contender -> MiB.
    """
    row: dict[str, Any] = {}
    for name, contenders in passes.items():
        times = interleave(
            contenders, seconds=settings.seconds, least=least, device=settings.device
        )
        row[name] = {contender: vars(value) for contender, value in times.items()}
    row["peak_mib"] = {
        contender: peak_memory(run, settings.device) for contender, run in contenders.items()
    }
    return row


def compared(found: Mapping[str, Any], base: str, names: list[str]) -> list[str]:
    """Cells of a table: the milliseconds of ``base``, and ``names`` as multiples of its median."""
    times = {name: Times(**value) for name, value in found.items()}
    ratios = (
        f"{times[name].median / times[base].median:.2f}" if name in times else "" for name in names
    )
    return [str(times[base]), *ratios]


def ratios(values: list[float], others: list[float]) -> str:
    """A cell of a table: median and quartiles of ``values`` divided by ``others``, one by one."""
    found = summary([value / other for value, other in zip(values, others, strict=True)])
    return f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"


def interleave(
    contenders: Contenders,
    *,
    seconds: float,
    least: int = 5,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Times]:
    """Time the contenders in turn, so that changes of the machine's speed affect all alike.

    Args:
        contenders: name -> what to run.
        seconds: for all rounds together, approximately.
        least: minimum number of rounds, after one to warm up.
        device: on "cuda", a turn is a burst of runs.
        clock: what tells the time.
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    runs = {name: _runs_of_a_turn(run, device) for name, run in contenders.items()}
    for _ in _rounds(seconds, least + 1):
        for name, run in contenders.items():
            found[name].append(_seconds(run, runs[name], device, clock))
    return {name: summary(values[1:]) for name, values in found.items()}


def gpu_times(contenders: Contenders, *, seconds: float, least: int = 10) -> dict[str, Times]:
    """The time that the GPU itself needs for each contender, with cold caches.

    Before each run the GPU gets other work, enough to be busy until the program has handed over
    the whole run, so the program's own time does not count.

    Args:
        contenders: name -> what to run.
        seconds: for all rounds together, approximately.
        least: minimum number of rounds.
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
    for _ in _rounds(seconds, least):
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
    return {name: summary(values) for name, values in found.items()}


def summary(values: list[float]) -> Times:
    """Median and quartiles of at least one value."""
    if len(values) == 1:
        return Times(*values * 3)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Times(median, low, high)


def _rounds(seconds: float, least: int) -> Iterator[int]:
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < least or time.perf_counter() < end:
        yield rounds
        rounds += 1


def _runs_of_a_turn(run: Callable[[], object], device: str) -> int:
    if device == "cpu":
        return 1
    run()  # compiles what is compiled at first use
    return max(1, int(BURST_SECONDS / _seconds(run, 3, device)))


def _seconds(
    run: Callable[[], object],
    runs: int,
    device: str,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    def burst() -> None:
        for _ in range(runs):
            run()

    return timed(burst, device, clock)[0] / runs


def timed(
    run: Callable[[], Any], device: str, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, Any]:
    """The seconds that a run takes, and its result."""
    if device != "cpu":
        torch.cuda.synchronize()
    start = clock()
    result = run()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start, result


def peak_memory(run: Callable[[], object], device: str = "cpu", *, fork: bool = True) -> float:
    """The most MiB that a run adds to the memory in use; on a CPU only under Linux.

    Args:
        run: what is measured.
        device: "cpu" or "cuda".
        fork: run on the CPU in a process of its own, with one thread. Otherwise the run takes
            place in this process, and later runs have to take their memory from the system anew.
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
    # Return free memory to the system and reset the peak, so that earlier runs do not count.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _kibibytes("VmRSS")
    run()
    return (_kibibytes("VmHWM") - before) / 1024


def _kibibytes(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith(name))
    return int(line.split()[1])
