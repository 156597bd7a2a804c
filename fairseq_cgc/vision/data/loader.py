"""Which samples make up the batches, and how these reach the model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.dataset import Batch, Samples
from fairseq_cgc.vision.data.seeds import generator
from fairseq_cgc.vision.training.distributed import Processes
from fairseq_cgc.vision.training.settings import TrainingSettings

logger = logging.getLogger(__name__)


def batch_sizes(samples: int, settings: TrainingSettings, processes: int) -> list[int]:
    """The batches of an epoch, in samples over all processes; only the last may be smaller.

    The last one is cut to a multiple of the parts that batches are divided into, and left out
    with fewer than two samples a part, of which no batch statistics could be taken.

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

    The order depends on the seed and the epoch alone: however many processes there are, together
    they see the same batches.
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
    """This process's samples in batches; every sample is in one process's batches only."""
    own = range(processes.rank, samples, processes.size)
    return [list(own[i : i + batch_size]) for i in range(0, len(own), batch_size)]


def load_batches(
    samples: Samples,
    batches: Sequence[list[int]],
    *,
    seed: int | None,
    workers: int,
    device: torch.device,
    broken: list[str] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the pixels and labels of :class:`Batch` on ``device``.

    Args:
        samples: the data set.
        batches: of indices.
        seed: of the augmentation; ``None`` for an evaluation.
        workers: processes that read ahead; 0 reads in this one. They have no influence on
            what is read.
        broken: gets what the data set says it has replaced or left out.

    Raises:
        UserError: for a sample that cannot be read, or fewer than 0 workers.
    """
    if workers < 0:
        raise UserError(f"--workers is {workers}, but must be at least 0")
    # Without batch_size the loader hands each element of the sampler to the data set, as it is.
    loader: DataLoader[Batch | str] = DataLoader(
        _Batches(samples, seed),
        sampler=batches,
        batch_size=None,
        num_workers=0 if samples.in_memory else min(workers, len(batches)),
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


class Standardise:
    """8-bit samples to what a model takes: zero mean and unit variance for each channel.

    Args:
        samples: whose statistics to use.
        device: of the batches.
        channels_last: the memory layout to give, to every frame of a clip.
    """

    def __init__(self, samples: Samples, device: torch.device, *, channels_last: bool) -> None:
        mean, std = (
            torch.tensor(values, device=device)[:, None, None] * 255
            for values in (samples.statistics.mean, samples.statistics.std)
        )
        self.mean, self.std = mean, std
        self.layout = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, pixels: Tensor) -> Tensor:
        inputs = (pixels - self.mean) / self.std
        return inputs.flatten(0, -4).contiguous(memory_format=self.layout).view(pixels.shape)


class _Batches(Dataset[Batch | str]):
    """Whole batches by their list of indices; a message instead of one that cannot be read.

    An exception would come out of a worker process with its traceback as the message.
    """

    def __init__(self, samples: Samples, seed: int | None) -> None:
        self.samples = samples
        self.seed = seed

    def __getitem__(self, indices: list[int]) -> Batch | str:
        try:
            return self.samples.load(indices, seed=self.seed)
        except UserError as error:
            return str(error)
