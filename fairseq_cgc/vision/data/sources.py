"""Data sets by what ``--data`` says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.cifar import find_cifar, open_cifar
from fairseq_cgc.vision.data.dataset import Images, Samples
from fairseq_cgc.vision.data.digits import open_digits
from fairseq_cgc.vision.data.folder import FolderImages, same_classes
from fairseq_cgc.vision.data.transforms import Crops
from fairseq_cgc.vision.data.tree import is_folder
from fairseq_cgc.vision.training.settings import TrainingSettings

DIGITS = "digits"
SPLITS = ("train", "val")

S = TypeVar("S", bound=Samples, covariant=True)


@dataclass(frozen=True)
class Data(Generic[S]):
    """The splits of a data set.

    Attributes:
        train: augmented.
        val: validation or test samples, whichever the data set has.
    """

    train: S
    val: S

    def split(self, name: str) -> S:
        """One of ``SPLITS``."""
        return self.train if name == "train" else self.val

    def record(self) -> dict[str, Any]:
        """What a training notes of its data, and what must not change while it is resumed."""
        return {
            "classes": list(self.train.classes),
            "channels": self.train.channels,
            f"train {self.train.noun}": len(self.train),
            "train (SHA-256)": self.train.fingerprint(),
            f"val {self.val.noun}": len(self.val),
            "val (SHA-256)": self.val.fingerprint(),
        }


def preset_for(source: str) -> str:
    """The name of the preset that fits ``--data SOURCE``."""
    if source == DIGITS:
        return "digits"
    return "default" if find_cifar(Path(source)) is None else "cifar10"


def crops_of(settings: TrainingSettings) -> Crops:
    """How the images of a training are cut."""
    return Crops(
        image_size=settings.image_size,
        resize=settings.resize,
        padding=settings.padding,
        flip=settings.flip,
    )


def open_data(source: str, crops: Crops, *, skip_broken: bool = False) -> Data[Images]:
    """Open a data set.

    Args:
        source: ``digits``; a folder with CIFAR-10's binary files; or one with ``train`` and
            ``val``, and in both a folder of images for every class.
        crops: how images are cut.
        skip_broken: as for :class:`Samples`.

    Raises:
        UserError: if it is none of these, or its files are wrong.
    """
    if source == DIGITS:
        return Data(*open_digits(crops))
    path = Path(source)
    if not is_folder(path):
        raise UserError(f"--data is {source}, which is neither a folder nor {DIGITS!r}")
    cifar = find_cifar(path)
    if cifar is not None:
        return Data(*open_cifar(cifar, crops))
    for name in SPLITS:
        if not is_folder(path / name):
            raise UserError(
                f"--data is {source}, which has no folder {name}; it must have train and val, "
                "each with a folder of images for every class, or CIFAR-10's binary files"
            )
    train, val = (FolderImages(path / name, crops, skip_broken=skip_broken) for name in SPLITS)
    same_classes(train.classes, val.classes, path)
    return Data(train, val)
