"""Data sets: batches of 8-bit images or clips, and their labels."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.seeds import derive_seed
from fairseq_cgc.vision.data.transforms import Crops

SPLITS = ("train", "val")


class Statistics(NamedTuple):
    """Mean and standard deviation of each channel, for pixels from 0 to 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Batch(NamedTuple):
    """Some samples.

    Attributes:
        pixels: uint8, B x C x H x W, or B x T x C x H x W for clips. With several views of each
            sample there are B * views of them, one sample's views after the other's.
        labels: B, int64.
        broken: why samples could not be read; they were replaced or left out.
    """

    pixels: Tensor
    labels: Tensor
    broken: tuple[str, ...] = ()


class Dataset(ABC):
    """One split of a data set.

    Attributes:
        noun: what the samples are, in the plural.
        classes: their names; a label is a position in this list.
        labels: N, int64.
        statistics: the channels' statistics, by which inputs are normalised.
        crops: how samples are cut.
        in_memory: batches take no time to read, so worker processes would only cost time.
        views: how many views of a sample an evaluation takes.
        skip_broken: a sample that cannot be read is replaced by the next one in training, and
            left out of an evaluation.
    """

    noun: ClassVar[str]
    in_memory = False
    views = 1
    skip_broken = False

    def __init__(
        self, classes: Sequence[str], labels: Tensor, statistics: Statistics, crops: Crops
    ) -> None:
        self.classes = tuple(classes)
        self.labels = labels
        self.statistics = statistics
        self.crops = crops

    @property
    def channels(self) -> int:
        """1 (grey) or 3."""
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
                    if place == index:  # a broken stand-in is counted in its own place
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
        """The pixels of some samples, as in :class:`Batch`.

        Args:
            indices: of the samples.
            seed: for the augmentation, which depends on the seed and the sample's index alone;
                ``None`` for an evaluation: no augmentation, all views.

        Raises:
            UserError: for a sample that cannot be read, with the file's name.
        """
        if seed is None:
            return self._views(indices, None)
        return self._views(indices, [random.Random(derive_seed(seed, i)) for i in indices])

    @abstractmethod
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256, by which a changed data set is noticed."""

    @abstractmethod
    def _views(self, indices: Sequence[int], draws: Sequence[random.Random] | None) -> Tensor: ...


class Data(NamedTuple):
    """Both splits of a data set.

    Attributes:
        train: augmented.
        val: validation or test samples, whichever the data set has.
    """

    train: Dataset
    val: Dataset

    def split(self, name: str) -> Dataset:
        """One of ``SPLITS``."""
        return self.train if name == "train" else self.val

    def record(self) -> dict[str, Any]:
        """What identifies the data of a training, which cannot be resumed with other data."""
        return {
            "classes": list(self.train.classes),
            "channels": self.train.channels,
            f"train {self.train.noun}": len(self.train),
            "train (SHA-256)": self.train.fingerprint(),
            f"val {self.val.noun}": len(self.val),
            "val (SHA-256)": self.val.fingerprint(),
        }
