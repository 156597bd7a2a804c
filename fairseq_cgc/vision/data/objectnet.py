"""ObjectNet for models of ImageNet (Barbu et al., NeurIPS 2019).

113 of its 313 classes overlap with ImageNet's. The model chooses among all of its outputs; a
choice is right if it is one of the outputs that stand for the image's class. Every image of the
release has a red border of 2 pixels, which is cut off.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.folder import FolderImages, class_folders
from fairseq_cgc.vision.data.transforms import Crops
from fairseq_cgc.vision.data.tree import read_text

BORDER = 2


def read_mapping(path: Path, outputs: int) -> dict[str, list[int]]:
    """Class folder to the model's outputs that stand for it.

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
    """The images of the overlapping classes; other folders are left out.

    Args:
        root: with a folder for every class, the release's ``images``.
        mapping: of :func:`read_mapping`.
        crops: of the model's evaluation.
        skip_broken: as for :class:`Samples`.

    Raises:
        UserError: if a class of the mapping has no folder, or an empty one.
    """
    missing = sorted({*mapping} - {*class_folders(root)})
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(f"{root} has no folder {', '.join(missing[:3])}{more} of --objectnet")
    crops = replace(crops, border=BORDER)
    return FolderImages(root, crops, sorted(mapping), skip_broken=skip_broken)


def accepted_outputs(
    classes: Sequence[str], mapping: Mapping[str, Sequence[int]], outputs: int
) -> Tensor:
    """Bool, classes x outputs: which choices are right."""
    accepted = torch.zeros(len(classes), outputs, dtype=torch.bool)
    for label, name in enumerate(classes):
        accepted[label, list(mapping[name])] = True
    return accepted
