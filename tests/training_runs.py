"""Trainings of image and video models as a user runs them, to their end or interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from our_commands import ENVIRONMENT, call, command_line
from torch import Tensor

from fairseq_cgc.vision.training_log import read_log


def torchrun(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    return subprocess.run(
        [*command, "2", *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """As in the other processes: sums in another order would differ in the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def weights(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)["model"]


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert ours.keys() == theirs.keys()
    assert not [name for name in ours if not torch.equal(ours[name], theirs[name])]


def assert_killed_is_as_whole(
    name: str, options: list[str], folder: Path, places: Collection[tuple[int, int]]
) -> None:
    """Kill a training within its second epoch, go on, and compare with an uninterrupted one.

    Args:
        name: of the command.
        options: of the training; it saves within epochs.
        folder: for both.
        places: (epoch, update) of the checkpoints that it may leave.
    """
    killed, whole = folder / "killed", folder / "whole"
    process = subprocess.Popen(
        command_line(name, *options, "--out", killed),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    log, last = killed / "train.jsonl", killed / "last.pt"
    while not log.exists() or last.stat().st_mtime <= log.stat().st_mtime + 0.2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    progress = torch.load(last, weights_only=True)["progress"]
    assert (progress["epoch"], progress["update"]) in places
    with one_thread():
        call(name, *options, "--out", killed)
        call(name, *options, "--out", whole)
    for file in ("last.pt", "best.pt"):
        assert_same(weights(killed / file), weights(whole / file))
    assert [line["train_loss"] for line in read_log(killed)] == pytest.approx(
        [line["train_loss"] for line in read_log(whole)], rel=1e-12
    )
