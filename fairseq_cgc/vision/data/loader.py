"""Which samples make up the batches, and how these reach the model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.dataset import Batch, Dataset
from fairseq_cgc.vision.data.seeds import generator
from fairseq_cgc.vision.training.distributed import Processes
from fairseq_cgc.vision.training.settings import TrainingSettings

logger = logging.getLogger(__name__)


def batch_sizes(samples: int, settings: TrainingSettings, processes: int) -> list[int]:
    """The sizes of an epoch's batches, over all processes; only the last may be smaller.

    The last batch is cut to a multiple of the parts that batches are divided into. It is left out
    if a part had fewer than two samples, which have no batch statistics.

    Raises:
        UserError: if ``batch_size`` is no multiple of the parts, or larger than the data set.
    """
    parts = processes * settings.accumulate
    size = settings.batch_size
    if size % parts:
        raise UserError(
            f"--batch-size is {size}, but must be a multiple of {parts}, which is the number of "
            "processes times --accumulate"
        )
    if samples < size:
        raise UserError(
            f"--batch-size is {size}, but there are only {samples} training {settings.noun}"
        )
    rest = samples % size - samples % size % parts
    return [size] * (samples // size) + ([rest] if rest >= 2 * parts else [])


def training_batches(
    samples: int, settings: TrainingSettings, epoch: int, processes: Processes
) -> list[list[int]]:
    """This process's share of every batch of an epoch.

    The order depends on the seed and the epoch alone: any number of processes sees the same
    batches together.
    """
    order = torch.randperm(samples, generator=generator(settings.seed, "order", epoch)).tolist()
    batches, start = [], 0
    for size in batch_sizes(samples, settings, processes.size):
        share = size // processes.size
        first = start + processes.rank * share
        batches.append(order[first : first + share])
        start += size
    return batches


def evaluation_batches(samples: int, batch_size: int, processes: Processes) -> list[list[int]]:
    """This process's samples in batches; every sample belongs to one process."""
    own = range(processes.rank, samples, processes.size)
    return [list(own[i : i + batch_size]) for i in range(0, len(own), batch_size)]


def load_batches(
    dataset: Dataset,
    batches: Sequence[list[int]],
    *,
    seed: int | None,
    workers: int,
    device: torch.device,
    broken: list[str] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the pixels and labels of :class:`Batch` on ``device``.

    Args:
        dataset: to read from.
        batches: of indices.
        seed: for the augmentation; ``None`` for an evaluation.
        workers: processes that read ahead; 0 reads in this one. What is read does not depend on
            them.
        device: where the batches go.
        broken: gets a message for every sample that was replaced or left out.

    Raises:
        UserError: for a sample that cannot be read, or fewer than 0 workers.
    """
    if workers < 0:
        raise UserError(f"--workers is {workers}, but must be at least 0")
    loader: DataLoader[Batch | str] = DataLoader(
        batches,  # type: ignore[arg-type]  # any sequence will do
        batch_size=None,  # each element is a batch already
        collate_fn=partial(_read, dataset, seed),
        num_workers=0 if dataset.in_memory else min(workers, len(batches)),
        pin_memory=device.type == "cuda",
    )
    for batch in loader:
        if isinstance(batch, str):
            raise UserError(batch)
        if broken is not None:
            for message in batch.broken:
                if message not in broken:
                    logger.warning("%s", message)
                broken.append(message)
        yield (
            batch.pixels.to(device, non_blocking=True),
            batch.labels.to(device, non_blocking=True),
        )


def _read(dataset: Dataset, seed: int | None, indices: list[int]) -> Batch | str:
    """A batch, or the message of its error, which from a worker would come with a traceback."""
    try:
        return dataset.load(indices, seed=seed)
    except UserError as error:
        return str(error)


class Normalize:
    """8-bit samples to a model's input: zero mean and unit variance in each channel.

    Args:
        dataset: whose statistics to use.
        device: of the batches.
        channels_last: whether the inputs, or every frame of a clip, get that memory layout.
    """

    def __init__(self, dataset: Dataset, device: torch.device, *, channels_last: bool) -> None:
        self.mean, self.std = (
            torch.tensor(values, device=device)[:, None, None] * 255
            for values in dataset.statistics
        )
        self.layout = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, pixels: Tensor) -> Tensor:
        inputs = (pixels - self.mean) / self.std
        return inputs.flatten(0, -4).contiguous(memory_format=self.layout).view(pixels.shape)
