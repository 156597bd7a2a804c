"""scikit-learn's digits: 1,797 images of 8 x 8 grey pixels, part of its installation."""

from __future__ import annotations

import torch

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.dataset import MemoryImages, Statistics
from fairseq_cgc.vision.data.transforms import Crops

_TEST_IMAGES = 360
_BRIGHTEST = 16
# Over all images, of pixels from 0 to 1.
_STATISTICS = Statistics((0.305,), (0.376,))


def open_digits(crops: Crops) -> tuple[MemoryImages, MemoryImages]:
    """1,437 training and 360 test images; the split is fixed and keeps the classes' shares.

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
    images = torch.from_numpy(digits.images).mul(255 / _BRIGHTEST).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(digits.target).long()
    parts = train_test_split(
        range(len(labels)), test_size=_TEST_IMAGES, random_state=0, stratify=digits.target
    )
    names = [str(name) for name in digits.target_names]
    train, test = (
        MemoryImages(images[part], names, labels[part], _STATISTICS, crops) for part in parts
    )
    return train, test
