"""Which images make up the batches, and how these reach the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.training.images import Images
from fairseq_cgc.vision.training.processes import Processes
from fairseq_cgc.vision.training.seeds import generator
from fairseq_cgc.vision.training.settings import Settings


def batch_sizes(images: int, settings: Settings, processes: int) -> list[int]:
    """The batches of an epoch, in images over all processes; only the last may be smaller.

    The last one is cut to a multiple of the parts that batches are divided into, and left out
    with fewer than two images a part, of which no batch statistics could be taken.

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
    if images < size:
        raise UserError(f"--batch-size is {size}, but there are only {images} training images")
    rest = images % size - images % size % parts
    return [size] * (images // size) + ([rest] if rest >= 2 * parts else [])


def training_batches(
    images: int, settings: Settings, epoch: int, processes: Processes
) -> list[list[int]]:
    """This process's share of every batch of an epoch.

    The order depends on the seed and the epoch alone: however many processes there are, together
    they see the same batches.
    """
    order = torch.randperm(images, generator=generator(settings.seed, "order", epoch)).tolist()
    batches, start = [], 0
    for size in batch_sizes(images, settings, processes.size):
        share = size // processes.size
        first = start + processes.rank * share
        batches.append(order[first : first + share])
        start += size
    return batches


def evaluation_batches(images: int, batch_size: int, processes: Processes) -> list[list[int]]:
    """This process's images in batches; every image is in one process's batches only."""
    own = range(processes.rank, images, processes.size)
    return [list(own[i : i + batch_size]) for i in range(0, len(own), batch_size)]


def load_batches(
    images: Images,
    batches: Sequence[list[int]],
    *,
    seed: int | None,
    workers: int,
    device: torch.device,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield 8-bit images, B x C x H x W, and labels, B, on ``device``.

    Args:
        images: the data set.
        batches: of indices.
        seed: of the augmentation; ``None`` for an evaluation.
        workers: processes that read ahead; 0 reads in this one. They have no influence on
            what is read.

    Raises:
        UserError: for an image that cannot be read.
    """
    # Without batch_size the loader hands each element of the sampler to the data set, as it is.
    loader: DataLoader[tuple[Tensor, Tensor] | str] = DataLoader(
        _Batches(images, seed),
        sampler=batches,
        batch_size=None,
        num_workers=0 if images.in_memory else min(workers, len(batches)),
        pin_memory=device.type == "cuda",
    )
    for batch in loader:
        if isinstance(batch, str):
            raise UserError(batch)
        pixels, labels = batch
        yield pixels.to(device, non_blocking=True), labels.to(device, non_blocking=True)


class Standardise:
    """8-bit images to what a model takes: zero mean and unit variance for each channel.

    Args:
        images: whose statistics to use.
        device: of the batches.
        channels_last: the memory layout to give.
    """

    def __init__(self, images: Images, device: torch.device, *, channels_last: bool) -> None:
        mean, std = (
            torch.tensor(values, device=device)[:, None, None] * 255
            for values in (images.statistics.mean, images.statistics.std)
        )
        self.mean, self.std = mean, std
        self.layout = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, pixels: Tensor) -> Tensor:
        return ((pixels - self.mean) / self.std).contiguous(memory_format=self.layout)


class _Batches(Dataset[tuple[Tensor, Tensor] | str]):
    """Whole batches by their list of indices; a message instead of one that cannot be read.

    An exception would come out of a worker process with its traceback as the message.
    """

    def __init__(self, images: Images, seed: int | None) -> None:
        self.images = images
        self.seed = seed

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor] | str:
        try:
            return self.images.batch(indices, seed=self.seed), self.images.labels[indices]
        except UserError as error:
            return str(error)
