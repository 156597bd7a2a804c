"""Crops, flips and mixup: what images look like when a model sees them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

_AREA = (0.08, 1.0)  # of the image, that a random crop covers
_RATIO = (3 / 4, 4 / 3)  # width / height of a random crop
_ATTEMPTS = 10


@dataclass(frozen=True)
class Crops:
    """How images are cut: the fields of the same names in :class:`TrainingSettings`.

    Attributes:
        border: pixels cut off every side of an image file before anything else.
    """

    image_size: int = 224
    resize: int = 256
    padding: int = 4
    flip: bool = True
    border: int = 0


def random_box(width: int, height: int, draw: random.Random) -> tuple[int, int, int, int]:
    """Left, top, width and height of a "random resized crop" (Szegedy et al., CVPR 2015).

    Its area is 8 to 100 % of the image's, its ratio of width to height 3/4 to 4/3. If none of ten
    such boxes fits into a very long image, the largest central box of an allowed ratio is taken.
    """
    for _ in range(_ATTEMPTS):
        area = width * height * draw.uniform(*_AREA)
        ratio = math.exp(draw.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return draw.randint(0, width - w), draw.randint(0, height - h), w, h
    w = min(width, max(1, round(height * _RATIO[1])))
    h = min(height, max(1, round(width / _RATIO[0])))
    return (width - w) // 2, (height - h) // 2, w, h


def training_view(image: Image.Image, crops: Crops, draw: random.Random) -> Tensor:
    """A random crop resized to a square, mirrored or not: uint8, C x size x size."""
    box = random_box(*image.size, draw)
    return cut_box(image, box, crops.image_size, mirrored=crops.flip and draw.random() < 0.5)


def cut_box(
    image: Image.Image, box: tuple[int, int, int, int], size: int, *, mirrored: bool
) -> Tensor:
    """A box of left, top, width and height, resized to a square: uint8, C x size x size."""
    left, top, width, height = box
    # Not resize(box=...), which would blend in pixels from outside the crop.
    cut = image.crop((left, top, left + width, top + height))
    cut = cut.resize((size, size), Image.Resampling.BILINEAR)
    if mirrored:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return as_tensor(cut)


def evaluation_view(image: Image.Image, crops: Crops) -> Tensor:
    """The central square after resizing the shorter side: uint8, C x size x size."""
    resized = resize_shorter_side(image, crops.resize)
    left, top = (round((side - crops.image_size) / 2) for side in resized.size)
    return as_tensor(resized.crop((left, top, left + crops.image_size, top + crops.image_size)))


def resize_shorter_side(image: Image.Image, length: int) -> Image.Image:
    """The whole image, with ``length`` pixels along its shorter side."""
    width, height = image.size
    short = min(width, height)
    sides = (length * width // short, length * height // short)
    return image.resize(sides, Image.Resampling.BILINEAR)


def as_tensor(image: Image.Image) -> Tensor:
    """Uint8, C x H x W."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def random_shifts(images: Tensor, crops: Crops, draws: Sequence[random.Random]) -> Tensor:
    """Random crops of images padded with black, mirrored or not.

    Args:
        images: uint8, B x C x H x W, or B x T x C x H x W: the frames of a clip move together.
        crops: ``padding`` and ``flip`` are used.
        draws: B generators.
    """
    height, width = images.shape[-2:]
    size = 2 * crops.padding + 1
    places = [(draw.randrange(size), draw.randrange(size), draw.random() < 0.5) for draw in draws]
    top, left, mirrored = torch.tensor(places).unbind(1)
    padded = F.pad(images.flatten(1, -3), (crops.padding,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # B x C x size x size x H x W
    shifted = windows[torch.arange(len(images)), :, top, left]
    if crops.flip:
        shifted = torch.where(mirrored.bool()[:, None, None, None], shifted.flip(-1), shifted)
    return shifted.view(images.shape)


def mixup(
    images: Tensor, labels: Tensor, classes: int, *, share: float, partners: Tensor
) -> tuple[Tensor, Tensor]:
    """Blend every image with another one of its batch (Zhang et al., ICLR 2018).

    Args:
        images: float, B x C x H x W, or clips.
        labels: B, class numbers.
        classes: their number.
        share: weight of the image itself; the partner has the rest.
        partners: B, the partners' positions in the batch.

    Returns:
        Blended images, and their targets as probabilities, B x classes.
    """
    targets = F.one_hot(labels, classes).to(images.dtype)
    blended = images.lerp(images[partners], 1 - share)
    return blended, targets.lerp(targets[partners], 1 - share)
