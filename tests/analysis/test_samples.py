from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fairseq_cgc.analysis.samples import (
    Subject,
    chosen_numbers,
    files_as_data,
    image_files,
    normalized_batches,
)
from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.dataset import Statistics
from fairseq_cgc.vision.data.memory import MemoryImages
from fairseq_cgc.vision.data.transforms import Crops
from fairseq_cgc.vision.training.distributed import Processes
from fairseq_cgc.vision.training.settings import Settings
from fairseq_cgc.vision.training.trained_model import TrainedModel


def images(labels: list[int]) -> MemoryImages:
    pixels = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    statistics = Statistics((0.0,), (1 / 255,))  # a pixel's value stays what it is
    return MemoryImages(pixels, list("abc"), torch.tensor(labels), statistics, Crops())


def test_the_first_image_of_each_class_is_the_default():
    assert chosen_numbers(images([2, 2, 0, 1, 0]), []) == [2, 3, 0]
    assert chosen_numbers(images([2, 2, 0]), ["1", "0"]) == [1, 0]


@pytest.mark.parametrize("word", ["3", "-1", "photo.jpg"])
def test_a_number_outside_the_split_is_reported(word):
    with pytest.raises(UserError, match=f"numbers from 0 to 2, but one is '{word}'"):
        chosen_numbers(images([0, 1, 2]), ["0", word])


def test_samples_that_would_not_fit_into_a_figure_are_refused(tmp_path):
    numbers = [str(number) for number in range(31)]
    assert len(chosen_numbers(images([0] * 31), numbers[:30])) == 30
    with pytest.raises(UserError, match="at most 30 images, but there are 31: name some of them"):
        chosen_numbers(images([0] * 31), numbers)
    for number in numbers:
        (tmp_path / f"{number}.png").touch()
    trained = TrainedModel(torch.nn.Identity(), "m", 2, 3, None, Crops())
    with pytest.raises(UserError, match="at most 30 images"):  # before one is read
        Subject("m", tmp_path / "best.pt", trained, Settings()).files([tmp_path])


def test_every_image_comes_once_and_standardised():
    here = Processes(torch.device("cpu"))
    found = list(normalized_batches(images([0, 1, 2, 0, 1]), here, batch_size=2, workers=0))
    pixels, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    torch.testing.assert_close(pixels[:, 0, 0, 0], torch.arange(5.0))
    assert labels.tolist() == [0, 1, 2, 0, 1]


def write(path, value: int = 255) -> None:
    Image.fromarray(np.full((20, 30, 3), value, dtype=np.uint8)).save(path)


def test_files_of_folders_and_by_name(tmp_path):
    for name in ("b.png", "a.PNG", "note.txt"):
        write(tmp_path / name) if name != "note.txt" else (tmp_path / name).write_text("x")
    assert [p.name for p in image_files([tmp_path, tmp_path / "b.png"])] == [
        *("a.PNG", "b.png", "b.png")
    ]


def test_missing_files_are_reported(tmp_path):
    with pytest.raises(UserError, match="holds no images"):
        image_files([tmp_path])
    with pytest.raises(UserError, match="there is no such image"):
        image_files([tmp_path / "c.png"])
    with pytest.raises(UserError, match="give image files or folders, or --data"):
        image_files([])


def test_files_are_cut_as_those_of_image_folders(tmp_path):
    write(tmp_path / "a.png")
    trained = TrainedModel(torch.nn.Identity(), "m", 2, 3, None, Crops(image_size=16, resize=18))
    found = files_as_data(trained, [tmp_path / "a.png"])
    assert found.images.shape == (1, 3, 16, 16) and found.images.min() == 255
    grey = TrainedModel(torch.nn.Identity(), "m", 2, 1, None, Crops())
    with pytest.raises(UserError, match="takes images of 1 channel.*use --data"):
        files_as_data(grey, [tmp_path / "a.png"])
