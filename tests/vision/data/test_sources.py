from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import tiny_images
import torch
from PIL import Image
from torch import Tensor, nn

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.folder import STATISTICS
from fairseq_cgc.vision.data.sources import accepted_outputs, open_objectnet, read_mapping
from fairseq_cgc.vision.data.transforms import Crops
from fairseq_cgc.vision.training.evaluation import evaluate

CROPS = Crops(image_size=20, resize=20)  # only what is longer than wide is cut
STEP = 20


class Brightness(nn.Module):
    """Of an image whose pixels are all 20 k, output k is the highest, then k + 1, k + 2, ..."""

    def forward(self, x: Tensor) -> Tensor:
        red = x[:, 0] * STATISTICS.std[0] + STATISTICS.mean[0]
        assert (red.amax((1, 2)) - red.amin((1, 2)) < 1e-5).all()  # the border is gone
        first = (255 / STEP * red.mean((1, 2))).round()
        return -((torch.arange(12) - first[:, None]) % 12)


def write_objectnet(root: Path, pictures: dict[str, list[int]]) -> Path:
    """Folder to the k of its images, each in a red frame of 2 pixels."""
    for folder, numbers in pictures.items():
        (root / folder).mkdir(parents=True)
        for i, k in enumerate(numbers):
            image = Image.new("RGB", (28, 24), (255, 0, 0))
            image.paste((STEP * k,) * 3, (2, 2, 26, 22))
            image.save(root / folder / f"{i}.png")
    return root


def test_objectnets_folders_stand_for_outputs(tmp_path):
    root = write_objectnet(
        tmp_path / "images",
        {"chair": [3, 4, 5], "mug": [0, 11, 2], "not_in_imagenet": [1, 1]},
    )
    path = tmp_path / "mapping.json"
    path.write_text(json.dumps({"mug": [2], "chair": [4, 9]}))
    mapping = read_mapping(path, 12)
    images = open_objectnet(root, mapping, CROPS)
    assert images.classes == ("chair", "mug") and len(images) == 6
    accepted = accepted_outputs(images.classes, mapping, 12)
    assert accepted.nonzero().tolist() == [[0, 4], [0, 9], [1, 2]]
    scores = evaluate(
        Brightness(), images, tiny_images.ALONE, batch_size=4, workers=0, accepted=accepted
    )
    # First choices 3, 4, 5 and 0, 11, 2: one chair and one mug are right. Among five, 5 reaches
    # 9 and all mugs reach 2.
    assert (scores.top1, scores.top5) == (pytest.approx(100 / 3), 100)
    assert scores.loss is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "must map names of folders to lists"),
        ("{}", "must map names of folders to lists"),
        ('{"mug": []}', "'mug' has [], but must have a list of numbers from 0 to 11"),
        ('{"mug": [12]}', "'mug' has [12]"),
        ('{"mug": [true]}', "'mug' has [True]"),
        ('{"mug": "2"}', "'mug' has '2'"),
        ('{"mug": 2}', "'mug' has 2"),
    ],
)
def test_wrong_mappings_are_refused(content, message, tmp_path):
    path = tmp_path / "mapping.json"
    path.write_text(content)
    with pytest.raises(UserError, match=re.escape(message)):
        read_mapping(path, 12)


def test_a_folder_that_is_missing_is_named(tmp_path):
    root = write_objectnet(tmp_path, {"mug": [1]})
    with pytest.raises(UserError, match="has no folder chair of --objectnet"):
        open_objectnet(root, {"mug": [1], "chair": [2]}, CROPS)
