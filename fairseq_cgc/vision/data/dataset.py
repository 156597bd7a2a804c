"""What every data set gives: batches of 8-bit images or clips, and their labels."""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.seeds import derive_seed
from fairseq_cgc.vision.data.transforms import Crops, random_shifts


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each channel, of pixels from 0 to 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Batch(NamedTuple):
    """Some samples.

    Attributes:
        pixels: uint8, B x C x H x W, or B x T x C x H x W for clips; where a sample has several
            views, they stand side by side, and there are B * views of them.
        labels: B, int64.
        broken: what could not be read and was replaced or left out.
    """

    pixels: Tensor
    labels: Tensor
    broken: tuple[str, ...] = ()


class Samples(ABC):
    """One split of a data set.

    Attributes:
        noun: what the samples are, in the plural.
        classes: their names; a label is a position in this list.
        labels: N, int64.
        statistics: with which models' inputs are standardised.
        in_memory: batches are made at once; worker processes would only cost time.
        views: of each sample in an evaluation.
        skip_broken: whether training takes the next sample instead of one that cannot be read,
            and an evaluation leaves it out.
    """

    noun: ClassVar[str]
    in_memory: bool
    views: int = 1
    skip_broken: bool = False

    def __init__(
        self, classes: Sequence[str], labels: Tensor, statistics: Statistics, crops: Crops
    ) -> None:
        self.classes = tuple(classes)
        self.labels = labels
        self.statistics = statistics
        self.crops = crops

    @property
    def channels(self) -> int:
        """Of an image: 1 or 3."""
        return len(self.statistics.mean)

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, indices: Sequence[int], *, seed: int | None) -> Batch:
        """Some samples with their labels; arguments and errors are those of :meth:`batch`."""
        if not self.skip_broken:
            return Batch(self.batch(indices, seed=seed), self.labels[list(indices)])
        pixels: list[Tensor] = []
        labels: list[int] = []
        broken: list[str] = []
        for index in indices:
            # In training every sample may stand in for this one, the nearest first.
            tries = 1 if seed is None else len(self)
            for place in range(index, index + tries):
                taken = place % len(self)
                try:
                    pixels.append(self.batch([taken], seed=seed))
                except UserError as error:
                    broken.append(str(error))
                    continue
                labels.append(int(self.labels[taken]))
                break
            else:
                if seed is not None:
                    noun = self.noun.removesuffix("s")
                    raise UserError(f"no {noun} can be read; the first error: {broken[0]}")
        together = torch.cat(pixels) if pixels else torch.empty(0, dtype=torch.uint8)
        return Batch(together, torch.tensor(labels, dtype=torch.long), tuple(broken))

    def batch(self, indices: Sequence[int], *, seed: int | None) -> Tensor:
        """Some samples, as in :class:`Batch`.

        Args:
            indices: which.
            seed: augments them, each depending on ``seed`` and its index alone; ``None``: as
                for an evaluation, with all views.

        Raises:
            UserError: for a sample that cannot be read, with the file's name.
        """
        if seed is None:
            return self._views(indices, None)
        return self._views(indices, [random.Random(derive_seed(seed, i)) for i in indices])

    @abstractmethod
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 by which a changed data set is noticed."""

    @abstractmethod
    def _views(self, indices: Sequence[int], draws: Sequence[random.Random] | None) -> Tensor: ...


class MemorySamples(Samples):
    """Small images or clips of one size, all in memory: random shifts and flips.

    Args:
        images: uint8, N x C x H x W, or N x T x C x H x W.
        classes, labels, statistics, crops: as for :class:`Samples`.
    """

    in_memory = True

    def __init__(
        self,
        images: Tensor,
        classes: Sequence[str],
        labels: Tensor,
        statistics: Statistics,
        crops: Crops,
    ) -> None:
        super().__init__(classes, labels, statistics, crops)
        self.images = images

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.labels.numpy().tobytes())
        digest.update(self.images.numpy().tobytes())
        return digest.hexdigest()

    def _views(self, indices: Sequence[int], draws: Sequence[random.Random] | None) -> Tensor:
        images = self.images[list(indices)]
        return images if draws is None else random_shifts(images, self.crops, draws)


class Images(Samples):
    """One split of a data set; a batch is uint8, B x C x H x W."""

    noun = "images"


class MemoryImages(MemorySamples, Images):
    """Small images of one size, N x C x H x W, all in memory."""
