"""Small data sets and models for the tests of training."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import nn

from fairseq_cgc.vision.data.dataset import Data, Statistics
from fairseq_cgc.vision.data.memory import MemoryImages
from fairseq_cgc.vision.data.transforms import Crops
from fairseq_cgc.vision.training.distributed import Processes
from fairseq_cgc.vision.training.run_options import RunOptions
from fairseq_cgc.vision.training.settings import Settings
from fairseq_cgc.vision.training.trainer import Trainer

ALONE = Processes(torch.device("cpu"))
NAMES = ("a", "b", "c")


def memory_images(number: int, seed: int = 0) -> MemoryImages:
    """Grey 6 x 6 images of three classes, each brighter than the one before."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % 3
    noise = torch.randint(0, 100, (number, 1, 6, 6), generator=draw)
    images = (noise + 60 * labels[:, None, None, None]).to(torch.uint8)
    return MemoryImages(images, NAMES, labels, Statistics((0.4,), (0.2,)), Crops(padding=1))


def tiny_data(train: int = 26, val: int = 9) -> Data:
    return Data(memory_images(train), memory_images(val, seed=1))


def tiny_settings(**changes: object) -> Settings:
    values: dict = {"model": "resnet8_cifar", "epochs": 3, "batch_size": 8, "lr": 0.05}
    return Settings(**values | changes)


def trainer(
    folder: Path, settings: Settings, processes: Processes = ALONE, **options: object
) -> Trainer:
    folder.mkdir(exist_ok=True)
    return Trainer(tiny_data(), settings, folder, RunOptions(workers=0, **options), processes)


def linear(name: str, num_classes: int, **options: object) -> nn.Module:
    """Stands in for ``create_model``: no batch statistics, so a batch may be divided."""
    return nn.Sequential(nn.Flatten(), nn.Linear(36, num_classes))


def write_image(path: Path, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Path:
    """A picture of smooth noise, different for every name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = torch.Generator().manual_seed(sum(map(ord, str(path.name))))
    noise = torch.randint(0, 256, (4, 4, 3), generator=draw, dtype=torch.uint8)
    image = Image.fromarray(noise.numpy()).resize(size, Image.Resampling.BILINEAR)
    image.convert(mode).save(path)
    return path


def write_folders(root: Path, train: int = 4, val: int = 2) -> Path:
    """Image folders of three classes."""
    for split, number in (("train", train), ("val", val)):
        for name in NAMES:
            for index in range(number):
                write_image(root / split / name / f"{name}{index}.png")
    return root
