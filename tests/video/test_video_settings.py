from __future__ import annotations

import json
import math
import re

import pytest
import torch

from fairseq_cgc.core import UserError
from fairseq_cgc.video.settings import VideoSettings
from fairseq_cgc.vision.training.checkpoints import Checkpoint, Progress, load_checkpoint
from fairseq_cgc.vision.training.learner import learning_rate


def test_presets_are_the_papers():
    presets = VideoSettings.presets()
    eight, sixteen = presets["something_v1"], presets["something_v1_16"]
    for settings, frames, batch in ((eight, 8, 64), (sixteen, 16, 32)):
        assert (settings.num_frames, settings.batch_size, settings.epochs) == (frames, batch, 45)
        assert (settings.lr, settings.milestones, settings.dropout) == (0.025, (26, 36), 0.5)
        assert (settings.sampling, settings.template) == ("segments", "{:05d}.jpg")
    p3d = presets["something_v1_p3d"]
    assert (p3d.num_frames, p3d.batch_size, p3d.epochs) == (32, 64, 50)
    assert (p3d.lr, p3d.milestones, p3d.dropout) == (0.01, (30, 40, 45), 0.8)
    assert p3d.sampling == "consecutive"
    assert not any(presets[name].flip for name in presets if name.startswith("something"))
    for settings in (eight, sixteen, p3d, presets["kinetics"]):
        assert (settings.decay, settings.momentum, settings.schedule) == (0.1, 0.9, "step")
        assert (settings.image_size, settings.resize, settings.clip_norm) == (224, 256, 20)
        assert (settings.groups, settings.weight_decay) == ("tsm", 1e-4)
    kinetics = presets["kinetics"]
    assert (kinetics.epochs, kinetics.lr, kinetics.milestones) == (100, 0.01, (40, 80))
    assert (kinetics.batch_size, kinetics.dropout, kinetics.num_frames) == (64, 0.5, 8)
    assert (kinetics.sampling, kinetics.template) == ("dense", "img_{:05d}.jpg")
    assert kinetics.flip and not presets["motion"].flip


@pytest.mark.parametrize(
    ("model", "backbone", "every", "recorded"),
    [
        ("tsm_cgc", "resnet101", 0, 2),
        ("tsm_cgc", "resnet101", 1, 1),
        ("tsm", "resnet50", 0, 1),
        ("tsn", "resnet101", 0, 1),
    ],
)
def test_the_record_says_which_blocks_are_shifted(model, backbone, every, recorded):
    settings = VideoSettings(model=model, backbone=backbone, shift_every=every)
    assert settings.effective()["shift_every"] == recorded
    again = VideoSettings.from_dict(settings.as_dict())
    with torch.device("meta"):
        blocks = again.create_model(5, 3).layer3
    assert [b.shift is not None for b in blocks[:3]] == (
        [False] * 3 if model == "tsn" else [True, recorded == 1, True]
    )


def test_earlier_checkpoints_shift_before_every_block(tmp_path):
    settings = VideoSettings(model="tsm", backbone="resnet140_cifar", num_frames=2)
    Checkpoint(settings, ("a",), 1, {}, {}, {}, Progress()).save(tmp_path / "x.pt")
    assert load_checkpoint(tmp_path / "x.pt", VideoSettings).settings.shift_every == 0
    content = torch.load(tmp_path / "x.pt", weights_only=True)
    del content["settings"]["shift_every"]
    torch.save(content, tmp_path / "x.pt")
    assert load_checkpoint(tmp_path / "x.pt", VideoSettings).settings.shift_every == 1


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 0.025), (25, 0.025), (26, 2.5e-3), (35, 2.5e-3), (36, 2.5e-4)]
)
def test_something_drops_after_26_and_36_epochs(epoch, rate):
    settings = VideoSettings.presets()["something_v1"]
    assert learning_rate(settings, epoch * 1344, 1344) == pytest.approx(rate)


def test_settings_survive_json():
    settings = VideoSettings(milestones=(1, 2), num_frames=16, template="{:06d}.jpg")
    assert VideoSettings.from_dict(json.loads(json.dumps(settings.as_dict()))) == settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_frames": 0}, "--num-frames is 0, but must be at least 1"),
        ({"sampling": "sparse"}, "--sampling is sparse, but must be segments or dense or consec"),
        ({"sampling": "dense", "num_frames": 80}, "--num-frames is 80, but --sampling dense"),
        ({"dropout": 1.0}, "--dropout is 1.0, but must be from 0 to below 1"),
        ({"clip_norm": -1}, "--clip-norm is -1.0, but must be at least 0"),
        ({"groups": "sgd"}, "--groups is sgd, but must be uniform or tsm"),
        ({"template": "img.jpg"}, "--template is img.jpg, but must be a name with the number"),
        ({"template": "{:05d"}, "--template is {:05d, but must be"),
        ({"template": "{}{}"}, "--template is {}{}, but must be"),
        ({"template": "{name}"}, "--template is {name}, but must be"),
        ({"template": "{0.real.x}"}, "--template is {0.real.x}, but must be"),
        ({"epochs": 0}, "--epochs is 0, but must be at least 1"),
        ({"cgc": {}}, "unknown setting 'cgc'; allowed are model, epochs"),
    ],
)
def test_wrong_values_are_named(values, message):
    with pytest.raises(UserError, match=re.escape(message)):
        VideoSettings.from_dict(values)


def small(model: str, **changes: object) -> tuple[VideoSettings, torch.nn.Module]:
    settings = VideoSettings(model=model, backbone="resnet8_cifar", **changes)
    return settings, settings.create_model(5, 1)


@pytest.mark.parametrize("name", ["tsm_cgc", "tsn_nonlocal", "p3d_cgc1d3d", "trn_cgc", "eco_cgc"])
def test_groups_of_tsm(name):
    settings, model = small(name, groups="tsm")
    groups = settings.parameter_groups(model)
    optimizer = torch.optim.SGD(groups, 0.1, weight_decay=1e-4)
    found = {
        id(parameter): (group.get("lr_factor", 1.0), group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(found) == sum(len(group["params"]) for group in groups)
    for parameter_name, parameter in model.named_parameters():
        is_norm = "norm" in parameter_name or re.search(r"\bbn\d?\.", parameter_name)
        is_shortcut_norm = "downsample.1." in parameter_name
        if parameter_name.startswith("fc."):
            expected = (10, 0) if parameter_name.endswith("bias") else (5, 1e-4)
        elif is_norm or is_shortcut_norm:
            expected = (1, 0)
        else:
            expected = (2, 0) if parameter_name.endswith("bias") else (1, 1e-4)
        assert found[id(parameter)] == expected, parameter_name
    assert optimizer.param_groups[0].get("lr_factor") is None


def test_uniform_is_one_group():
    settings, model = small("tsm")
    [group] = settings.parameter_groups(model)
    assert group == {"params": list(model.parameters())}
    assert settings.gradient_limit == math.inf
    assert VideoSettings(clip_norm=3.0).gradient_limit == 3
