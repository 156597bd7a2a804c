"""CIFAR-10 in its binary form: a byte for the label, then 3 x 32 x 32 bytes, a record an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.dataset import MemoryImages, Statistics
from fairseq_cgc.vision.data.transforms import Crops
from fairseq_cgc.vision.data.tree import demand_file, is_file

TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
_FOLDER = "cifar-10-batches-bin"  # what the archive unpacks to
_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32
_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
# The means are those of the pixels. The deviations are too small by a fifth (they are means of
# the images' own), but they are what the paper's code base and many others divide by.
_STATISTICS = Statistics((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def find_cifar(path: Path) -> Path | None:
    """``path`` or the folder in it that holds the binary files; ``None`` if there is none.

    Raises:
        UserError: if these are the pickled files, which could run code.
    """
    for folder in (path, path / _FOLDER):
        if any(is_file(folder / name) for name in (*TRAIN_FILES, TEST_FILE)):
            return folder
    python_version = (path, path / "cifar-10-batches-py")
    if any(is_file(folder / "data_batch_1") for folder in python_version):
        raise UserError(
            f"{path} holds the Python version of CIFAR-10, which is pickled and not read; "
            "use the binary version (cifar-10-binary.tar.gz)"
        )
    return None


def open_cifar(folder: Path, crops: Crops) -> tuple[MemoryImages, MemoryImages]:
    """Training and test images.

    Raises:
        UserError: if a file is missing, truncated or not of this form.
    """
    batches = [_read(folder / name) for name in TRAIN_FILES]
    first = len(batches[0][1])
    for name, (_, labels) in zip(TRAIN_FILES, batches, strict=True):
        if len(labels) != first:
            raise UserError(
                f"{folder / name} has {len(labels)} images, but {TRAIN_FILES[0]} has {first}: "
                "one of them is not whole"
            )
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    test_images, test_labels = _read(folder / TEST_FILE)
    train = MemoryImages(images, _CLASSES, labels, _STATISTICS, crops)
    return train, MemoryImages(test_images, _CLASSES, test_labels, _STATISTICS, crops)


def _read(path: Path) -> tuple[Tensor, Tensor]:
    """Images, uint8, N x 3 x 32 x 32, and labels, N."""
    demand_file(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not content or len(content) % _RECORD:
        raise UserError(
            f"{path} has {len(content)} bytes, but a file of CIFAR-10 has {_RECORD} for every "
            "image: truncated, or another kind of file"
        )
    records = torch.from_numpy(np.frombuffer(content, np.uint8).reshape(-1, _RECORD).copy())
    labels = records[:, 0].long()
    if int(labels.max()) >= len(_CLASSES):
        number = int((labels >= len(_CLASSES)).nonzero()[0])
        raise UserError(
            f"{path}: image {number + 1} has label {int(labels[number])}, but CIFAR-10 has "
            f"{len(_CLASSES)} classes"
        )
    return records[:, 1:].reshape(-1, *_SHAPE).contiguous(), labels
