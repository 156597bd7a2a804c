from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from PIL import Image

from fairseq_cgc.vision.data import transforms
from fairseq_cgc.vision.data.transforms import Crops, mixup, random_box, random_shifts


def gradient(width: int, height: int) -> Image.Image:
    """Red counts columns, green counts rows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, :, 0] = np.arange(width)
    pixels[:, :, 1] = np.arange(height)[:, None]
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("width", "height"), [(500, 375), (64, 64), (10, 300)])
def test_boxes_lie_inside_with_the_area_and_ratio_of_the_recipe(width, height):
    draw = random.Random(3)
    boxes = [random_box(width, height, draw) for _ in range(300)]
    for left, top, w, h in boxes:
        assert left >= 0 and top >= 0 and left + w <= width and top + h <= height
        # The sides are rounded to whole pixels.
        assert (w + 1) / (h - 1) >= 3 / 4 and (w - 1) / (h + 1) <= 4 / 3
    if width < 10 * height and height < 10 * width:
        areas = [w * h / (width * height) for _, _, w, h in boxes]
        assert 0.07 < min(areas) < 0.12 and 0.9 < max(areas) <= 1
        assert len({box[:2] for box in boxes}) > 100


def test_a_long_image_has_its_largest_central_box():
    assert random_box(3, 300, random.Random(0)) == (0, 148, 3, 4)
    assert random_box(300, 3, random.Random(0)) == (148, 0, 4, 3)


def test_training_view_is_the_box_and_is_mirrored_half_of_the_time(monkeypatch):
    monkeypatch.setattr(transforms, "random_box", lambda width, height, draw: (20, 5, 8, 8))
    crops = Crops(image_size=8)
    plain = torch.stack([torch.arange(20, 28).expand(8, 8), torch.arange(5, 13).expand(8, 8).T])
    draw = random.Random(0)
    views = [transforms.training_view(gradient(60, 40), crops, draw)[:2] for _ in range(200)]
    mirrored = sum(torch.equal(view, plain.flip(-1)) for view in views)
    assert mirrored + sum(torch.equal(view, plain) for view in views) == 200
    assert 70 < mirrored < 130
    never = Crops(image_size=8, flip=False)
    for _ in range(20):
        assert torch.equal(transforms.training_view(gradient(60, 40), never, draw)[:2], plain)


@pytest.mark.parametrize(
    ("size", "left", "top"), [((40, 30), 10, 5), ((30, 40), 5, 10), ((31, 30), 6, 5)]
)
def test_evaluation_view_is_the_central_square(size, left, top):
    # 30 is the shorter side already: nothing is resized. (31 - 20) / 2 = 5.5 is rounded to even.
    view = transforms.evaluation_view(gradient(*size), Crops(image_size=20, resize=30))
    assert view.shape == (3, 20, 20) and view.dtype == torch.uint8
    assert view[0, 0].tolist() == [*range(left, left + 20)]
    assert view[1, :, 0].tolist() == [*range(top, top + 20)]


def test_evaluation_view_resizes_the_shorter_side():
    image = gradient(100, 50).resize((200, 100), Image.Resampling.NEAREST)
    view = transforms.evaluation_view(image, Crops(image_size=50, resize=50))  # back to 100 x 50
    assert (view[0, 0].int() - torch.arange(25, 75)).abs().max() <= 1


def test_shifts_are_crops_of_the_padded_image():
    images = torch.randint(1, 256, (64, 2, 5, 7), dtype=torch.uint8)
    draws = [random.Random(i) for i in range(64)]
    shifted = random_shifts(images, Crops(padding=2), draws)
    assert shifted.dtype == torch.uint8 and shifted.shape == images.shape
    seen = set()
    for image, got in zip(images, shifted, strict=True):
        padded = np.pad(image.numpy(), ((0, 0), (2, 2), (2, 2)))
        matches = {
            (top, left, flip)
            for top in range(5)
            for left in range(5)
            for flip in (False, True)
            if np.array_equal(
                padded[:, top : top + 5, left : left + 7][:, :, :: -1 if flip else 1], got.numpy()
            )
        }
        assert len(matches) == 1
        seen |= matches
    assert len(seen) > 30  # of 50
    still = random_shifts(images, Crops(padding=0, flip=False), draws)
    assert torch.equal(still, images)


def test_mixup_blends_images_and_targets():
    images, labels = torch.rand(4, 1, 2, 2), torch.tensor([0, 2, 1, 0])
    partners = torch.tensor([1, 0, 3, 2])
    blended, targets = mixup(images, labels, 3, share=0.75, partners=partners)
    for i, j in enumerate(partners):
        torch.testing.assert_close(blended[i], 0.75 * images[i] + 0.25 * images[j])
    expected = [[0.75, 0, 0.25], [0.25, 0, 0.75], [0.25, 0.75, 0], [0.75, 0.25, 0]]
    torch.testing.assert_close(targets, torch.tensor(expected))


def test_loss_of_mixed_targets_is_the_mix_of_losses():
    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 0])
    partners = torch.tensor([3, 2, 1, 0])
    _, targets = mixup(torch.rand(4, 1, 2, 2), labels, 3, share=0.3, partners=partners)
    loss = torch.nn.functional.cross_entropy
    expected = 0.3 * loss(logits, labels) + 0.7 * loss(logits, labels[partners])
    assert math.isclose(loss(logits, targets), expected, rel_tol=1e-6)
