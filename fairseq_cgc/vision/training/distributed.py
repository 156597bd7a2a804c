"""The processes of one training: a single one, or those that torchrun started."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from tqdm import tqdm

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.training.run_options import DEVICES


@dataclass(frozen=True)
class Processes:
    """This process among ``size``; rank 0 is the main one, which writes files and messages."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def total(self, numbers: Tensor) -> Tensor:
        """The sum over all processes, each of which must call it."""
        numbers = numbers.clone()
        if self.size > 1:
            distributed.all_reduce(numbers)
        return numbers

    def take_buffers_of_main(self, model: nn.Module) -> None:
        """Copy the main process's running statistics to all processes, each of which must call."""
        if self.size > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Join the processes of torchrun, if there are any: on a GPU each (NCCL), or on CPUs (Gloo).

    Args:
        device: one of ``DEVICES``; ``auto`` is a GPU where there is one.

    Raises:
        UserError: if a GPU is asked for and there is none, or there are fewer than processes.
    """
    if device not in DEVICES:
        raise UserError(f"--device is {device!r}, but must be one of {', '.join(DEVICES)}")
    use_gpu = torch.cuda.is_available() if device == "auto" else device == "cuda"
    gpus = torch.cuda.device_count() if use_gpu else 0
    if use_gpu and gpus == 0:
        raise UserError("--device is cuda, but there is no GPU that torch can use")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if use_gpu and local >= gpus:
        raise UserError(
            f"torchrun has started more than {gpus} processes here, but there are {gpus} GPUs; "
            f"--nproc-per-node can be {gpus} at most"
        )
    place = torch.device("cuda", local) if use_gpu else torch.device("cpu")
    if use_gpu:
        torch.cuda.set_device(place)
    if size == 1:
        yield Processes(place)
        return
    distributed.init_process_group("nccl" if use_gpu else "gloo")
    yield Processes(place, distributed.get_rank(), size)
    # Not after an error: it would wait for processes that do not end by themselves. torchrun
    # stops those.
    distributed.destroy_process_group()


def progress_bar(
    name: str, samples: int, processes: Processes, *, noun: str = "images", done: int = 0
) -> tqdm:
    """A bar that counts samples and their speed, drawn by the main process alone.

    Args:
        name: shown before the bar.
        samples: how many there are.
        processes: that work on them.
        noun: what the samples are.
        done: samples that were counted before.
    """
    # A terminal is updated all the time, a log file every half minute.
    watched = sys.stderr.isatty()
    return tqdm(
        total=samples,
        initial=done,
        desc=name,
        unit=f" {noun}",
        leave=False,
        delay=0 if watched else 30,
        mininterval=0.2 if watched else 30,
        disable=not processes.is_main,
    )
