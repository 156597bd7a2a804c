"""Trainings of clips, as far as they differ from those of images."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training_runs import assert_same, weights

from fairseq_cgc.core import UserError
from fairseq_cgc.video import settings as settings_module
from fairseq_cgc.video.data import motion
from fairseq_cgc.video.data.sources import Source, open_training
from fairseq_cgc.video.settings import VideoSettings
from fairseq_cgc.vision.data.loader import Normalize
from fairseq_cgc.vision.training.checkpoints import load_checkpoint
from fairseq_cgc.vision.training.distributed import Processes
from fairseq_cgc.vision.training.learner import Learner
from fairseq_cgc.vision.training.run_options import RunOptions
from fairseq_cgc.vision.training.trainer import Trainer
from fairseq_cgc.vision.training_log import read_log

ALONE = Processes(torch.device("cpu"))


@pytest.fixture(autouse=True)
def _few_clips(monkeypatch):
    monkeypatch.setattr(motion, "_PAIRS", {"train": 10, "val": 6})


def tiny_settings(**changes: object) -> VideoSettings:
    values: dict = {"model": "tsm_cgc", "backbone": "resnet8_cifar", "num_frames": 4, "padding": 1}
    return VideoSettings(**values | {"epochs": 2, "batch_size": 8, "lr": 0.05} | changes)


def trainer(folder: Path, settings: VideoSettings, **options: int) -> Trainer:
    folder.mkdir(exist_ok=True)
    data = open_training(Source("motion"), settings)
    return Trainer(data, settings, folder, RunOptions(workers=0, **options), ALONE)


@pytest.mark.parametrize(
    "changes",
    [
        {"groups": "tsm", "clip_norm": 1.0, "accumulate": 2, "mixup": 0.2},
        {"model": "p3d_cgc1d3d", "precision": "bfloat16", "channels_last": True},
        {"model": "trn", "dropout": 0.2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_interrupted_is_as_uninterrupted(changes, tmp_path, monkeypatch):
    settings = tiny_settings(**changes)
    trainer(tmp_path / "whole", settings).run()
    update = Learner.update

    def fail(self, *arguments, **place):
        if place == {"epoch": 1, "update": 1}:
            raise InterruptedError
        update(self, *arguments, **place)

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(Learner, "update", fail)
        trainer(tmp_path / "part", settings, save_updates=1).run()
    torch.rand(3)  # another process would have other random numbers
    trainer(tmp_path / "part", settings).run()
    assert_same(weights(tmp_path / "part" / "last.pt"), weights(tmp_path / "whole" / "last.pt"))
    lines = read_log(tmp_path / "part")
    assert [line["epoch"] for line in lines] == [1, 2] and "videos_per_second" in lines[0]


class MeanAndLinear(nn.Module):
    """The mean over frames and a classifier, for updates that can be written down."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.scale = nn.Conv2d(1, 1, 1)
        self.fc = nn.Linear(24 * 24, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.scale(x.mean(1)).flatten(1))


def test_updates_have_groups_and_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(
        settings_module, "create_model", lambda name, classes, **options: MeanAndLinear(classes)
    )
    settings = tiny_settings(groups="tsm", clip_norm=0.5, momentum=0.0, weight_decay=0.1)
    data = open_training(Source("motion"), settings)
    learner = Learner(data.train, settings, 2, ALONE)
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    pixels, labels = data.train.images[:8], data.train.labels[:8]
    twin = MeanAndLinear(4)
    twin.load_state_dict(before)
    inputs = Normalize(data.train, ALONE.device, channels_last=False)(pixels)
    nn.functional.cross_entropy(twin(inputs), labels).backward()
    norm = sum(p.grad.square().sum() for p in twin.parameters()).sqrt()
    assert norm > 0.5
    learner.update(pixels, labels, epoch=0, update=0)
    factors = {"scale.weight": 1, "scale.bias": 2, "fc.weight": 5, "fc.bias": 10}
    for name, parameter in twin.named_parameters():
        decay = 0.1 * before[name] if name.endswith("weight") else 0
        step = 0.05 * factors[name] * (parameter.grad * 0.5 / norm + decay)
        torch.testing.assert_close(
            learner.model.get_parameter(name), before[name] - step, rtol=1e-4, atol=1e-6
        )


def test_normalized_clips_may_have_adjacent_channels():
    clips = open_training(Source("motion"), tiny_settings()).val
    pixels = torch.randint(0, 256, (2, 3, 4, 5, 6), dtype=torch.uint8)
    plain, adjacent = (
        Normalize(clips, ALONE.device, channels_last=layout)(pixels) for layout in (False, True)
    )
    assert torch.equal(plain, adjacent) and plain.is_contiguous()
    assert adjacent.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    mean, std = clips.statistics.mean[0], clips.statistics.std[0]
    torch.testing.assert_close(plain, (pixels / 255 - mean) / std)


SMALLEST = ["tsn", "tsn_cgc", "tsm", "p3d", "p3d_cgc1d3d", "trn", "trn_cgc", "eco", "eco_cgc"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("model", SMALLEST)
def test_a_step_of_every_family(model, precision):
    """The loss is finite and falls, and everything that can learn has learnt."""
    settings = tiny_settings(model=model, precision=precision, dropout=0.0, lr=0.02)
    data = open_training(Source("motion"), settings)
    learner = Learner(data.train, settings, 2, ALONE)
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    pixels, labels = data.train.images[:8], data.train.labels[:8]
    losses = []
    for update in range(4):
        learner.sums.zero_()
        learner.update(pixels, labels, epoch=0, update=update)
        losses.append(float(learner.sums[0]))
        if update == 0:
            parameters = learner.model.named_parameters()
            assert [name for name, p in parameters if torch.equal(p, before[name])] == []
    assert all(map(math.isfinite, losses)) and min(losses[1:]) < losses[0]


def test_other_frames_are_another_training(tmp_path):
    trainer(tmp_path / "x", tiny_settings(epochs=1)).run()
    with pytest.raises(UserError, match="was trained with --num-frames 4, now it is 5"):
        trainer(tmp_path / "x", tiny_settings(epochs=1, num_frames=5))
    with pytest.raises(UserError, match="--batch-size is 64, but there are only 20 training video"):
        trainer(tmp_path / "y", tiny_settings(batch_size=64))
    with pytest.raises(UserError, match="last.pt is not a checkpoint of fairseq-cgc train-image"):
        load_checkpoint(tmp_path / "x" / "last.pt")
    checkpoint = load_checkpoint(tmp_path / "x" / "last.pt", VideoSettings)
    assert_same(checkpoint.create_model().state_dict(), weights(tmp_path / "x" / "last.pt"))
