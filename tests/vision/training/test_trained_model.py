from __future__ import annotations

import re

import pytest
import tiny_images
import torch
from training_runs import assert_same

from fairseq_cgc.core import UserError
from fairseq_cgc.support.environment import IMAGES, versions
from fairseq_cgc.vision import create_model
from fairseq_cgc.vision.data.transforms import Crops
from fairseq_cgc.vision.training.trained_model import (
    evaluation_images,
    load_trained,
    load_weights_of,
)

CROPS = Crops(image_size=16, resize=20)


def save_weights(path, name="resnet8_cifar", classes=3, channels=3):
    model = create_model(name, classes, in_channels=channels)
    torch.save(model.state_dict(), path)
    return model.state_dict()


def test_weights_tell_classes_and_channels(tmp_path):
    state = save_weights(tmp_path / "x.pth", classes=7, channels=1)
    subject = load_weights_of("resnet8_cifar", tmp_path / "x.pth", CROPS)
    assert (subject.outputs, subject.channels, subject.classes) == (7, 1, None)
    assert_same(subject.model.state_dict(), state)


def test_weights_of_a_wrapped_model(tmp_path):
    state = save_weights(tmp_path / "x.pth", classes=7)
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "x.pth")
    subject = load_weights_of("resnet8_cifar", tmp_path / "x.pth", CROPS)
    assert subject.outputs == 7
    assert_same(subject.model.state_dict(), state)


def test_weights_without_gates_are_refused(tmp_path):
    save_weights(tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"lacks conv1.gate\S* and \d+ more of resnet8_cifar_cgc"):
        load_weights_of("resnet8_cifar_cgc", tmp_path / "x.pth", CROPS)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "y.pth")
    with pytest.raises(UserError, match="has no fc.weight and conv1.weight"):
        load_weights_of("resnet8_cifar", tmp_path / "y.pth", CROPS)
    with pytest.raises(UserError, match="--resize is 16 and --image-size 20"):
        load_weights_of("resnet8_cifar", tmp_path / "x.pth", Crops(image_size=20, resize=16))


def test_images_must_fit_the_model(tmp_path):
    root = tiny_images.write_folders(tmp_path / "data")
    save_weights(tmp_path / "x.pth", classes=4)
    subject = load_weights_of("resnet8_cifar", tmp_path / "x.pth", CROPS)
    with pytest.raises(UserError, match="has 3 classes, but the model has 4 outputs"):
        evaluation_images(subject, str(root), split="val", objectnet=None)
    save_weights(tmp_path / "y.pth", channels=1)
    subject = load_weights_of("resnet8_cifar", tmp_path / "y.pth", CROPS)
    with pytest.raises(UserError, match="has images of 3 channels, but the model takes 1"):
        evaluation_images(subject, str(root), split="val", objectnet=None)
    tiny_images.trainer(tmp_path / "run", tiny_images.tiny_settings(epochs=1)).run()
    for split in ("train", "val"):
        (root / split / "b").rename(root / split / "bb")
    with pytest.raises(
        UserError, match=re.escape("has class 'bb' where the model was trained on 'b'")
    ):
        evaluation_images(
            load_trained(tmp_path / "run" / "last.pt"), str(root), split="val", objectnet=None
        )


def test_versions_name_what_decides_a_score():
    assert {"python", "torch", "pillow"} <= versions(IMAGES).keys()
