"""Images in folders, one for each class, read as they are needed."""

from __future__ import annotations

import hashlib
import os
import random
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.training.augment import Crops, test_view, training_view
from fairseq_cgc.vision.training.images import Images, Statistics

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
#: Of ImageNet; what models trained on it expect.
STATISTICS = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_MORE_THAN_8_BITS = ("I", "F")


class FolderImages(Images):
    """The images below ``root/CLASS/`` for every class.

    Args:
        root: the folder of class folders.
        crops: how images are cut.
        classes: folders to read, in the order of the labels; all of them in the order of their
            names if left out.

    Raises:
        UserError: if there are no class folders, or one of them is missing or empty.
    """

    in_memory = False

    def __init__(self, root: Path, crops: Crops, classes: Sequence[str] | None = None) -> None:
        classes = class_folders(root) if classes is None else classes
        files = [_image_files(root / name) for name in classes]
        labels = torch.arange(len(classes)).repeat_interleave(torch.tensor(list(map(len, files))))
        super().__init__(classes, labels, STATISTICS, crops)
        self.root = root
        self.files = [file for of_class in files for file in of_class]

    def fingerprint(self) -> str:
        """Of the files' names: reading a million files would take hours."""
        names = "\0".join(os.path.relpath(file, self.root) for file in self.files)
        return hashlib.sha256(os.fsencode(names)).hexdigest()

    def _views(self, indices: Sequence[int], draws: Sequence[random.Random] | None) -> Tensor:
        images = (read_image(self.files[i], border=self.crops.border) for i in indices)
        if draws is None:
            return torch.stack([test_view(image, self.crops) for image in images])
        views = zip(images, draws, strict=True)
        return torch.stack([training_view(image, self.crops, draw) for image, draw in views])


def class_folders(root: Path) -> list[str]:
    """The names of the folders in ``root``, sorted; hidden ones are left out.

    Raises:
        UserError: if there are none.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    except OSError as error:
        raise UserError(f"{root}: cannot be read ({error.strerror or error})") from error
    names = [name for name in names if not name.startswith(".")]
    if not names:
        raise UserError(f"{root} holds no folders; each class must have one, with its images")
    return names


def same_classes(train: Sequence[str], val: Sequence[str], root: Path) -> None:
    """Check that two splits have the same class folders.

    Raises:
        UserError: naming those that only one of them has.
    """
    for here, there, names in (
        ("train", "val", sorted({*train} - {*val})),
        ("val", "train", sorted({*val} - {*train})),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(
                f"{root}: {here} and {there} must have the same class folders, but {there} has "
                f"no {', '.join(names[:3])}{more}"
            )


def read_image(path: str, *, border: int = 0) -> Image.Image:
    """Decode a file to 8-bit RGB: grey, palette and CMYK images are converted.

    An orientation in EXIF data is not applied, and transparency is dropped. That is how the
    usual loaders read ImageNet, so that published weights see what they were trained on.

    Args:
        path: of the file.
        border: pixels to cut off every side.

    Raises:
        UserError: if the file cannot be read, is damaged, has more than 8 bits a channel, or
            is not larger than its border.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata; and ImageNet has large images
            with Image.open(path) as image:
                if image.mode.startswith(_MORE_THAN_8_BITS):
                    raise UserError(
                        f"{path} has more than 8 bits a channel (mode {image.mode}): convert it"
                    )
                rgb = image.convert("RGB")
    except UnidentifiedImageError:
        raise UserError(f"{path}: not an image, or one of an unknown kind") from None
    except UserError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: damaged, or not to be read ({error})") from error
    if border:
        width, height = rgb.size
        if min(width, height) <= 2 * border:
            raise UserError(f"{path} has {width} x {height} pixels, no more than its border")
        rgb = rgb.crop((border, border, width - border, height - border))
    return rgb


def _image_files(folder: Path) -> list[str]:
    """The images in a folder and the folders in it, sorted."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such class folder")
    files = sorted(
        str(Path(where, name))
        for where, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    )
    if not files:
        raise UserError(f"{folder} holds no images ({' '.join(SUFFIXES)})")
    return files
