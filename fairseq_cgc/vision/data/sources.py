"""Image data sets by what ``--data`` says, and ObjectNet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fairseq_cgc.core import UserError
from fairseq_cgc.support.errors import some_names
from fairseq_cgc.vision.data.dataset import SPLITS, Data
from fairseq_cgc.vision.data.folder import FolderImages, class_folders
from fairseq_cgc.vision.data.memory import find_cifar, open_cifar, open_digits
from fairseq_cgc.vision.data.transforms import Crops
from fairseq_cgc.vision.data.tree import is_folder, read_text

DIGITS = "digits"


def preset_for(source: str) -> str:
    """The name of the preset that fits ``--data SOURCE``."""
    if source == DIGITS:
        return "digits"
    return "default" if find_cifar(Path(source)) is None else "cifar10"


def open_data(source: str, crops: Crops, *, skip_broken: bool = False) -> Data:
    """Open a data set.

    Args:
        source: ``digits``; a folder with CIFAR-10's binary files; or a folder with ``train`` and
            ``val``, and in both a folder of images for every class.
        crops: how images are cut.
        skip_broken: as for :class:`Dataset`.

    Raises:
        UserError: if it is none of these, or its files are wrong.
    """
    if source == DIGITS:
        return open_digits(crops)
    path = Path(source)
    if not is_folder(path):
        raise UserError(f"--data is {source}, which is neither a folder nor {DIGITS!r}")
    cifar = find_cifar(path)
    if cifar is not None:
        return open_cifar(cifar, crops)
    for name in SPLITS:
        if not is_folder(path / name):
            raise UserError(
                f"--data is {source}, which has no folder {name}; it must have train and val, "
                "each with a folder of images for every class, or CIFAR-10's binary files"
            )
    train, val = (FolderImages(path / name, crops, skip_broken=skip_broken) for name in SPLITS)
    for here, there, lacking in (
        ("train", "val", sorted({*train.classes} - {*val.classes})),
        ("val", "train", sorted({*val.classes} - {*train.classes})),
    ):
        if lacking:
            raise UserError(
                f"{path}: {here} and {there} must have the same class folders, but {there} has "
                f"no {some_names(lacking)}"
            )
    return Data(train, val)


_OBJECTNET_BORDER = 2  # pixels: the red frame of every image of the release


def read_mapping(path: Path, outputs: int) -> dict[str, list[int]]:
    """ObjectNet's class folders, each with the model's outputs that stand for it.

    Args:
        path: JSON, for example ``{"alarm_clock": [409, 530]}``.
        outputs: of the model, counted from 0.

    Raises:
        UserError: if the file is missing or of another form.
    """
    try:
        mapping = json.loads(read_text(path))
    except ValueError as error:  # UserError too
        raise UserError(f"--objectnet {path}: cannot be read as JSON ({error})") from error
    if not isinstance(mapping, Mapping) or not mapping:
        raise UserError(f"--objectnet {path} must map names of folders to lists of numbers")
    for folder, numbers in mapping.items():
        whole = isinstance(numbers, Sequence) and not isinstance(numbers, str) and numbers
        if not whole or not all(type(n) is int and 0 <= n < outputs for n in numbers):
            raise UserError(
                f"--objectnet {path}: {folder!r} has {numbers!r}, but must have a list of numbers "
                f"from 0 to {outputs - 1}"
            )
    return dict(mapping)


def open_objectnet(
    root: Path, mapping: Mapping[str, Sequence[int]], crops: Crops, *, skip_broken: bool = False
) -> FolderImages:
    """ObjectNet's images of ImageNet's classes (Barbu et al., NeurIPS 2019).

    113 of its 313 classes overlap with ImageNet's; the other folders are left out. The model
    chooses among all of its outputs (:func:`accepted_outputs`).

    Args:
        root: with a folder for every class, the release's ``images``.
        mapping: from :func:`read_mapping`.
        crops: of the model's evaluation.
        skip_broken: as for :class:`Dataset`.

    Raises:
        UserError: if a class of the mapping has no folder, or an empty one.
    """
    missing = sorted({*mapping} - {*class_folders(root)})
    if missing:
        raise UserError(f"{root} has no folder {some_names(missing)} of --objectnet")
    crops = replace(crops, border=_OBJECTNET_BORDER)
    return FolderImages(root, crops, sorted(mapping), skip_broken=skip_broken)


def accepted_outputs(
    classes: Sequence[str], mapping: Mapping[str, Sequence[int]], outputs: int
) -> Tensor:
    """Bool, classes x outputs: which outputs are right for a class."""
    accepted = torch.zeros(len(classes), outputs, dtype=torch.bool)
    for label, name in enumerate(classes):
        accepted[label, list(mapping[name])] = True
    return accepted
