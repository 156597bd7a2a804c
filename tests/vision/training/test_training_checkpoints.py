from __future__ import annotations

import os

import pytest
import tiny_images
import torch
from training_runs import assert_same

from fairseq_cgc.core import UserError
from fairseq_cgc.vision import create_model, load_weights
from fairseq_cgc.vision.training.checkpoints import (
    RECORD,
    Checkpoint,
    Progress,
    keep_record,
    load_checkpoint,
)


def checkpoint(**changes: object) -> Checkpoint:
    settings = tiny_images.tiny_settings(model="resnet8_cifar_cgc", cgc={"shared_norm": True})
    model = create_model(settings.model, 3, in_channels=1, cgc=settings.cgc)
    values = {
        "settings": settings,
        "classes": ("a", "b", "c"),
        "channels": 1,
        "model": model.state_dict(),
        "optimizer": torch.optim.SGD(model.parameters(), 0.1, momentum=0.9).state_dict(),
        "scaler": {},
        "progress": Progress(epoch=2, update=5, loss=1.5, best_top1=50.0),
    }
    return Checkpoint(**values | changes)


def test_a_saved_checkpoint_loads_unchanged(tmp_path):
    before = checkpoint()
    before.save(tmp_path / "x.pt")
    after = load_checkpoint(tmp_path / "x.pt")
    assert_same(before.model, after.model)
    assert_same(before.model, after.create_model().state_dict())
    for name in ("settings", "classes", "channels", "progress", "optimizer"):
        assert getattr(after, name) == getattr(before, name)
    other = create_model("resnet8_cifar_cgc", 3, in_channels=1, cgc={"shared_norm": True})
    load_weights(other, tmp_path / "x.pt")
    assert_same(before.model, other.state_dict())


def test_checkpoints_from_before_there_were_videos(tmp_path):
    checkpoint().save(tmp_path / "x.pt")
    content = torch.load(tmp_path / "x.pt", weights_only=True)
    del content["script"], content["progress"]["samples"]
    content["progress"]["images"] = 40
    torch.save(content, tmp_path / "x.pt")
    after = load_checkpoint(tmp_path / "x.pt")
    assert (after.progress.samples, after.progress.update) == (40, 5)
    assert after.settings == checkpoint().settings
    content["script"] = "scripts/train_video.py"
    torch.save(content, tmp_path / "video.pt")
    with pytest.raises(UserError, match="is not a checkpoint of fairseq-cgc train-image"):
        load_checkpoint(tmp_path / "video.pt")


def test_weights_must_fit_the_settings(tmp_path):
    checkpoint(settings=tiny_images.tiny_settings()).save(tmp_path / "x.pt")
    with pytest.raises(UserError, match="does not fit resnet8_cifar: Unexpected key"):
        load_checkpoint(tmp_path / "x.pt").create_model()


def test_damaged_hostile_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "x.pt"
    checkpoint().save(path)
    path.write_bytes(path.read_bytes()[:5000])

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'executed'}",)

    torch.save({"model": Hostile()}, tmp_path / "hostile.pt")
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "weights.pt")
    torch.save([1], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("hello")
    for name, message in (
        ("x.pt", "x.pt is damaged, or not a checkpoint at all"),
        ("text.pt", "is damaged, or not a checkpoint at all"),
        ("hostile.pt", "is refused: it asks to run or build posix.system"),
        ("weights.pt", "is not a checkpoint of fairseq-cgc train-image"),
        ("list.pt", "is not a checkpoint of fairseq-cgc train-image"),
        ("gone.pt", r"cannot be read \(No such file"),
        ("", r"cannot be read \(Is a directory"),
    ):
        with pytest.raises(UserError, match=message):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_record_is_kept_and_compared(tmp_path):
    keep_record(tmp_path, {"--lr": 0.3})
    keep_record(tmp_path, {"--lr": 0.1, "--milestones": (1, 2)})  # nothing is trained yet
    (tmp_path / "last.pt").touch()
    keep_record(tmp_path, {"--lr": 0.1, "--milestones": (1, 2)})
    with pytest.raises(UserError, match=r"was trained with --lr 0.1, now it is 0.2; give another"):
        keep_record(tmp_path, {"--lr": 0.2, "--milestones": (1, 2)})
    with pytest.raises(UserError, match=r"with --milestones \[1, 2\], now it is null"):
        keep_record(tmp_path, {"--lr": 0.1})
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(UserError, match="settings.json: damaged"):
        keep_record(tmp_path, {})


def test_earlier_records_lack_what_came_later(tmp_path):
    keep_record(tmp_path, {"--lr": 0.1})
    (tmp_path / "last.pt").touch()
    keep_record(tmp_path, {"--lr": 0.1, "--shift-every": 1}, {"--shift-every": 1})
    with pytest.raises(UserError, match=r"trained with --shift-every 1, now it is 2"):
        keep_record(tmp_path, {"--lr": 0.1, "--shift-every": 2}, {"--shift-every": 1})


def test_checkpoints_without_a_record_are_not_touched(tmp_path):
    (tmp_path / "last.pt").write_bytes(b"")
    with pytest.raises(UserError, match="has checkpoints, but no settings.json"):
        keep_record(tmp_path, {})
    assert not (tmp_path / RECORD).exists()
