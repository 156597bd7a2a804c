from __future__ import annotations

import argparse
import dataclasses
import json
import math
import re
import typing

import pytest

from fairseq_cgc.commands.vision_commands import add_training_options
from fairseq_cgc.core import UserError
from fairseq_cgc.video.settings import VideoEvaluationOptions, VideoSettings
from fairseq_cgc.vision.training.run_options import ImageEvaluationOptions, RunOptions
from fairseq_cgc.vision.training.settings import Settings


def test_presets_are_the_papers():
    default, advanced, cifar = (Settings.presets()[n] for n in ("default", "advanced", "cifar10"))
    for settings in (default, advanced):
        assert (settings.batch_size, settings.lr, settings.momentum) == (256, 0.1, 0.9)
        assert (settings.weight_decay, settings.image_size, settings.flip) == (1e-4, 224, True)
        assert (settings.label_smoothing, settings.accumulate) == (0, 1)
    assert (default.epochs, default.schedule, default.milestones) == (100, "step", (30, 60, 90))
    assert (default.mixup, default.warmup_epochs, default.decay) == (0, 0, 0.1)
    assert (advanced.epochs, advanced.schedule, advanced.warmup_epochs) == (120, "cosine", 5)
    assert advanced.mixup == 0.2
    finetune = Settings.presets()["gc_finetune"]  # 40 epochs of a cosine from 0.02, no warm-up
    assert (finetune.model, finetune.epochs, finetune.lr) == ("gc_resnet50", 40, 0.02)
    assert (finetune.schedule, finetune.milestones, finetune.warmup_epochs) == ("cosine", (), 0)
    assert (finetune.batch_size, finetune.weight_decay) == (256, 1e-4)
    assert (cifar.batch_size, cifar.epochs, cifar.milestones) == (128, 164, (81, 122))
    assert (cifar.padding, cifar.flip, cifar.lr, cifar.weight_decay) == (4, True, 0.1, 1e-4)


def test_preset_takes_changes():
    settings = Settings.preset("cifar10", {"epochs": 2, "milestones": (1,)})
    assert (settings.epochs, settings.milestones, settings.batch_size) == (2, (1,), 128)
    assert Settings.preset("default", {"schedule": "cosine"}).milestones == ()
    assert Settings.preset("advanced", {}).warnings() == []
    (warning,) = Settings.preset("advanced", {"schedule": "step"}).warnings()
    assert warning.startswith("--schedule is step without --milestones, so the learning rate never")
    with pytest.raises(UserError, match="--preset is 'slow', but must be one of default, adv"):
        Settings.preset("slow", {})


def test_settings_survive_json():
    settings = Settings(milestones=(1, 2), cgc={"branches": "first"}, lr=1.0)
    assert Settings.from_dict(json.loads(json.dumps(settings.as_dict()))) == settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"colour": 1}, "unknown setting 'colour'; allowed are model, epochs"),
        ({"epochs": 2.5}, "--epochs is 2.5, but must be of type int"),
        ({"epochs": True}, "--epochs is True, but must be of type int"),
        ({"batch_size": 0}, "--batch-size is 0, but must be at least 1"),
        ({"lr": 0}, "--lr is 0.0, but must be more than 0"),
        ({"lr": float("nan")}, "--lr is nan"),
        *(
            ({name: float("inf")}, f"--{name.replace('_', '-')} is inf, but must be a finite")
            for name in ("lr", "mixup", "momentum", "weight_decay", "decay", "label_smoothing")
        ),
        ({"label_smoothing": 1.0}, "from 0 to below 1"),
        ({"schedule": "linear"}, "--schedule is linear, but must be step or cosine"),
        ({"precision": "int8"}, "--precision is int8"),
        ({"resize": 100}, "--resize is 100, but must be at least --image-size"),
        ({"milestones": [30, 20]}, "--milestones is 30 20, but must be rising"),
        ({"milestones": [0]}, "--milestones is 0, but must be rising"),
        ({"milestones": [3], "schedule": "cosine"}, "left out with --schedule cosine"),
        ({"epochs": 5, "warmup_epochs": 5}, "less than --epochs, which is 5"),
    ],
)
def test_wrong_values_are_named(values, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Settings.from_dict(values)


@pytest.mark.parametrize("kind", [Settings, VideoSettings])
def test_every_value_of_every_setting_is_typed_and_bounded(kind):
    """Whatever a checkpoint or a preset may hold, the answer is one line that names the option."""
    wrong = {
        int: (-1, 1.5, "3", True, None, 10**30),
        float: (-1.0, math.inf, -math.inf, math.nan, "0.1", True, [0.1]),
        bool: (1, "maybe", None),
        str: (3, None, ["x"], b"x"),
    }
    unbounded = {"epochs", "batch_size", "accumulate", "warmup_epochs", "shift_every", "seed"}
    types = typing.get_type_hints(kind)
    for option in dataclasses.fields(kind):
        values = wrong.get(types[option.name], ("a", 5, [1.5], [True], ["a"], [[1]]))
        if option.metadata.get("choices"):
            values += ("", "none")
        for value in values:
            if value == 10**30 and option.name in unbounded - {"warmup_epochs"}:
                continue
            with pytest.raises(UserError, match=f"^--{option.name.replace('_', '-')} is "):
                kind.from_dict({option.name: value})


@pytest.mark.parametrize("kind", [RunOptions, ImageEvaluationOptions, VideoEvaluationOptions])
def test_every_number_of_a_run_is_bounded(kind):
    for option in dataclasses.fields(kind):
        if option.metadata["range"] or option.metadata["choices"]:
            with pytest.raises(UserError, match=f"^--{option.name.replace('_', '-')} is "):
                kind(**{option.name: "x" if option.metadata["choices"] else -1})


def test_every_option_shows_its_values_in_the_presets():
    parser = argparse.ArgumentParser()
    add_training_options(parser, Settings, data="", weights="")
    helps = {option.dest: option.help for option in parser._actions}
    assert helps["momentum"].endswith("(0.9)")
    assert "cifar10: 128" in helps["batch_size"]
    assert "default: 30 60 90" in helps["milestones"]
