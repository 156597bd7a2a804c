"""Images in folders, one for each class, read as they are needed."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.dataset import Dataset, Statistics
from fairseq_cgc.vision.data.transforms import Crops, evaluation_view, training_view
from fairseq_cgc.vision.data.tree import SUFFIXES, entries, find_images, is_folder

logger = logging.getLogger(__name__)

#: Of ImageNet; what models trained on it expect.
STATISTICS = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_MORE_THAN_8_BITS = ("I", "F")


class FolderImages(Dataset):
    """The images below ``root/CLASS/`` for every class, as :func:`find_images` finds them.

    Classes and images may be links. Broken links and the like are left out with a warning.

    Args:
        root: the folder of class folders.
        crops: how images are cut.
        classes: names of the folders to read, in the order of the labels; all of them, sorted,
            by default.
        skip_broken: as for :class:`Dataset`.

    Raises:
        UserError: if there are no class folders, or one of them is missing, empty, not readable,
            or a link to another one.
    """

    noun = "images"

    def __init__(
        self,
        root: Path,
        crops: Crops,
        classes: Sequence[str] | None = None,
        *,
        skip_broken: bool = False,
    ) -> None:
        classes = class_folders(root) if classes is None else classes
        files: list[list[str]] = []
        left_out: list[str] = []
        closed = _real_folders(root, classes)
        for name in classes:
            images, others = find_images(root / name, closed)
            if not images:
                raise UserError(f"{root / name} holds no images ({' '.join(SUFFIXES)})")
            files.append(images)
            left_out += others
        if left_out:
            logger.warning(
                "%s: %d left out: links that lead nowhere, in a circle or to another class, or "
                "what is named like an image but is no file; the first is %s",
                *(root, len(left_out), left_out[0]),
            )
        labels = torch.arange(len(classes)).repeat_interleave(torch.tensor(list(map(len, files))))
        super().__init__(classes, labels, STATISTICS, crops)
        self.root, self.skip_broken = root, skip_broken
        self.files = [file for of_class in files for file in of_class]

    def fingerprint(self) -> str:
        """Of the files' names: reading a million files would take hours."""
        names = "\0".join(os.path.relpath(file, self.root) for file in self.files)
        return hashlib.sha256(os.fsencode(names)).hexdigest()

    def _views(self, indices: Sequence[int], draws: Sequence[random.Random] | None) -> Tensor:
        images = (read_image(self.files[i], border=self.crops.border) for i in indices)
        if draws is None:
            return torch.stack([evaluation_view(image, self.crops) for image in images])
        views = zip(images, draws, strict=True)
        return torch.stack([training_view(image, self.crops, draw) for image, draw in views])


def class_folders(root: Path) -> list[str]:
    """The names of the folders in ``root``, sorted, without hidden ones.

    A link to a folder counts, but not one to ``root`` itself or to a folder around it.

    Raises:
        UserError: if there are none, or ``root`` cannot be read.
    """
    real = Path(os.path.realpath(root))
    names = [
        entry.name
        for entry in entries(root)
        if is_folder(entry.path)
        and not (entry.is_symlink() and real.is_relative_to(os.path.realpath(entry.path)))
    ]
    if not names:
        raise UserError(f"{root} holds no folders; each class must have one, with its images")
    return names


def read_image(path: str, *, border: int = 0) -> Image.Image:
    """Decode a file to 8-bit RGB: grey, palette and CMYK images are converted.

    An orientation in EXIF data is not applied, and transparency is dropped. That is how the
    usual loaders read ImageNet, so published weights see what they were trained on.

    Args:
        path: of the file.
        border: pixels to cut off every side.

    Raises:
        UserError: if the file cannot be read, is damaged, has more than 8 bits a channel, or
            is not larger than its border.
    """
    try:
        # Warnings are of odd metadata, and of large images, which ImageNet has.
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if image.mode.startswith(_MORE_THAN_8_BITS):
                raise UserError(
                    f"{path} has more than 8 bits a channel (mode {image.mode}): convert it"
                )
            rgb = image.convert("RGB")
    except UnidentifiedImageError:
        raise UserError(f"{path}: not an image, or one of an unknown kind") from None
    except UserError:
        raise
    except Exception as error:  # a damaged file fails in as many ways as there are bytes
        raise UserError(f"{path}: damaged, or not to be read ({error})") from error
    if border:
        width, height = rgb.size
        if min(width, height) <= 2 * border:
            raise UserError(f"{path} has {width} x {height} pixels, no more than its border")
        rgb = rgb.crop((border, border, width - border, height - border))
    return rgb


def _real_folders(root: Path, classes: Sequence[str]) -> dict[str, str]:
    """The real paths of the class folders, with the classes' names."""
    folders: dict[str, str] = {}
    for name in classes:
        if not is_folder(root / name):
            raise UserError(f"{root / name}: there is no such class folder")
        real = os.path.realpath(root / name)
        if real in folders:
            raise UserError(
                f"{root}: {folders[real]} and {name} are the same folder, but classes must differ"
            )
        folders[real] = name
    return folders
