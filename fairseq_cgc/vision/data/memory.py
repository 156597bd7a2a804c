"""Small images held in memory: CIFAR-10 in its binary form, and scikit-learn's digits."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.dataset import Data, Dataset, Statistics
from fairseq_cgc.vision.data.transforms import Crops, random_shifts
from fairseq_cgc.vision.data.tree import demand_file, is_file


class MemoryImages(Dataset):
    """Images of one size, augmented by random shifts and flips.

    Args:
        images: uint8, N x C x H x W; clips: N x T x C x H x W.
        classes, labels, statistics, crops: as for :class:`Dataset`.
    """

    noun = "images"
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


CIFAR_TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
CIFAR_TEST_FILE = "test_batch.bin"
_CIFAR_SHAPE = (3, 32, 32)
_CIFAR_RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the image
_CIFAR_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
# The means are those of the pixels. The deviations are a fifth too small (they are means of the
# images' own), but they are what the paper's code base and many others divide by.
_CIFAR_STATISTICS = Statistics((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def find_cifar(path: Path) -> Path | None:
    """``path`` or the folder in it that holds the binary files; ``None`` if there is none.

    Raises:
        UserError: if there are only the pickled files, which could run code.
    """
    for folder in (path, path / "cifar-10-batches-bin"):  # to which the archive unpacks
        if any(is_file(folder / name) for name in (*CIFAR_TRAIN_FILES, CIFAR_TEST_FILE)):
            return folder
    if any(is_file(f / "data_batch_1") for f in (path, path / "cifar-10-batches-py")):
        raise UserError(
            f"{path} holds the Python version of CIFAR-10, which is pickled and not read; "
            "use the binary version (cifar-10-binary.tar.gz)"
        )
    return None


def open_cifar(folder: Path, crops: Crops) -> Data:
    """Training and test images.

    Raises:
        UserError: if a file is missing, truncated or not of this form.
    """
    batches = [_read_cifar(folder / name) for name in CIFAR_TRAIN_FILES]
    first = len(batches[0][1])
    for name, (_, labels) in zip(CIFAR_TRAIN_FILES, batches, strict=True):
        if len(labels) != first:
            raise UserError(
                f"{folder / name} has {len(labels)} images, but {CIFAR_TRAIN_FILES[0]} has "
                f"{first}: one of them is not whole"
            )
    train = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    splits = (
        MemoryImages(images, _CIFAR_CLASSES, labels, _CIFAR_STATISTICS, crops)
        for images, labels in (train, _read_cifar(folder / CIFAR_TEST_FILE))
    )
    return Data(*splits)


def _read_cifar(path: Path) -> tuple[Tensor, Tensor]:
    """Images, uint8, N x 3 x 32 x 32, and labels, N."""
    demand_file(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not content or len(content) % _CIFAR_RECORD:
        raise UserError(
            f"{path} has {len(content)} bytes, but a file of CIFAR-10 has {_CIFAR_RECORD} for "
            "every image: truncated, or another kind of file"
        )
    records = torch.from_numpy(np.frombuffer(content, np.uint8).reshape(-1, _CIFAR_RECORD).copy())
    labels = records[:, 0].long()
    if int(labels.max()) >= len(_CIFAR_CLASSES):
        number = int((labels >= len(_CIFAR_CLASSES)).nonzero()[0])
        raise UserError(
            f"{path}: image {number + 1} has label {int(labels[number])}, but CIFAR-10 has "
            f"{len(_CIFAR_CLASSES)} classes"
        )
    return records[:, 1:].reshape(-1, *_CIFAR_SHAPE).contiguous(), labels


_DIGITS_TEST_IMAGES = 360
_DIGITS_BRIGHTEST = 16
_DIGITS_STATISTICS = Statistics((0.305,), (0.376,))  # of all images


def open_digits(crops: Crops) -> Data:
    """scikit-learn's digits: 1,437 training and 360 test images of 8 x 8 grey pixels.

    The split is fixed and keeps the classes' shares.

    Raises:
        UserError: if scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
        from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]
    except ImportError as error:
        raise UserError(
            f"--data digits needs scikit-learn: pip install scikit-learn ({error})"
        ) from error
    digits = load_digits()
    pixels = torch.from_numpy(digits.images).mul(255 / _DIGITS_BRIGHTEST).to(torch.uint8)
    labels = torch.from_numpy(digits.target).long()
    train, test = train_test_split(
        range(len(labels)), test_size=_DIGITS_TEST_IMAGES, random_state=0, stratify=digits.target
    )
    names = [str(name) for name in digits.target_names]
    splits = (
        MemoryImages(pixels[part].unsqueeze(1), names, labels[part], _DIGITS_STATISTICS, crops)
        for part in (train, test)
    )
    return Data(*splits)
