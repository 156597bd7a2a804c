"""fairseq-cgc train-image and evaluate-image as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_images
import torch
from our_commands import call
from training_runs import (
    assert_killed_is_as_whole,
    assert_same,
    one_thread,
    torchrun,
    weights,
)

from fairseq_cgc.core import UserError
from fairseq_cgc.support.command_line import run_main
from fairseq_cgc.vision import create_model, registry
from fairseq_cgc.vision.attention import GlobalContext
from fairseq_cgc.vision.resnet import Bottleneck, Shape
from fairseq_cgc.vision.training import settings as settings_module
from fairseq_cgc.vision.training.evaluation import evaluate
from fairseq_cgc.vision.training.trained_model import load_trained
from fairseq_cgc.vision.training_log import read_log

SMALL = ["--model", "resnet8_cifar", "--batch-size", "359", "--workers", "1"]


def test_train_and_evaluate_digits(tmp_path, capsys):
    out = tmp_path / "out"
    call("train-image", "--data", "digits", "--out", out, *SMALL, "--epochs", "2")
    settings = json.loads((out / "settings.json").read_text())
    assert settings["--batch-size"] == 359 and settings["--weight-decay"] == 5e-4  # the preset's
    assert settings["train images"] == 1437 and settings["processes"] == 1
    call("evaluate-image", out / "last.pt", "--data", "digits")
    printed = capsys.readouterr().out
    result = json.loads((out / "last.val.json").read_text())
    line = read_log(out)[-1]
    assert result["top1"] == pytest.approx(line["val_top1"])
    assert result["loss"] == pytest.approx(line["val_loss"], rel=1e-5)
    assert f"top-1 {line['val_top1']:.2f}%" in printed
    assert (result["images"], result["split"], result["model"]) == (360, "val", "resnet8_cifar")
    assert "torch" in result["versions"] and result["machine"]


@pytest.mark.parametrize("branches", ["in", "out"])
def test_models_of_one_branch_train(branches, tmp_path):
    """The stem is gated, and images need no gradients."""
    options = [*SMALL[2:], "--model", "resnet8_cifar_cgc", "--cgc", f"branches={branches}"]
    options += ["--epochs", "1", "--warmup-epochs", "0"]
    call("train-image", "--data", "digits", "--out", tmp_path, *options)
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "last.pt").values())


def test_train_on_folders_and_evaluate_weights(tmp_path):
    root, out = tiny_images.write_folders(tmp_path / "data"), tmp_path / "out"
    options = ["--model", "resnet8_cifar_cgc", "--image-size", "16", "--resize", "20"]
    options += ["--batch-size", "4", "--epochs", "2", "--milestones", "1", "--workers", "1"]
    call("train-image", "--data", root, "--out", out, *options, "--cgc", "shared_norm=true")
    settings = json.loads((out / "settings.json").read_text())
    assert settings["--cgc"] == {"shared_norm": True} and settings["--milestones"] == [1]
    wide = ("--channels-last", "--precision", "bfloat16")
    call("evaluate-image", out / "best.pt", "--data", root, "--split", "train", *wide)
    assert json.loads((out / "best.train.json").read_text())["images"] == 12
    (tmp_path / "mapping.json").write_text('{"a": [0, 2]}')
    call(
        "evaluate-image",
        *(out / "best.pt", "--data", root / "val", "--objectnet", tmp_path / "mapping.json"),
        *("--output", tmp_path / "result.json"),
    )
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["split"], result["images"], result["loss"]) == ("objectnet", 2, None)


def test_weights_to_start_from_and_broken_images(tmp_path, capsys, caplog):
    root, out = tiny_images.write_folders(tmp_path / "data"), tmp_path / "out"
    (root / "train" / "b" / "b1.png").write_bytes(b"no image")
    (root / "val" / "c" / "c0.png").write_bytes(b"")
    started = create_model("resnet8_cifar", 10)
    torch.save({"state_dict": {f"module.{n}": t for n, t in started.state_dict().items()}},
               tmp_path / "ten.pth")  # fmt: skip
    options = ["--data", root, "--model", "resnet8_cifar_cgc", "--image-size", "16"]
    options += ["--resize", "20", "--batch-size", "12", "--epochs", "1", "--workers", "0"]
    options += ["--weights", tmp_path / "ten.pth", "--lr", "1e-30"]
    with pytest.raises(UserError, match="b1.png: not an image"):
        call("train-image", "--out", out, *options)
    call("train-image", "--out", out, *options, "--skip-broken")
    assert "replaced 1 unreadable images by the next readable ones" in caplog.messages
    trained = weights(out / "last.pt")
    assert torch.equal(trained["layer2.0.conv1.weight"], started.layer2[0].conv1.weight)
    assert trained["fc.weight"].shape[0] == 3
    settings = json.loads((out / "settings.json").read_text())
    assert len(settings["weights (SHA-256)"]) == 64
    with pytest.raises(UserError, match="c0.png: not an image"):
        call("evaluate-image", out / "last.pt", "--data", root)
    capsys.readouterr()
    with pytest.raises(UserError, match="cannot be written"):
        call("evaluate-image", out / "last.pt", "--data", root, "--skip-broken", "--output", root)
    assert "of 5 images" in capsys.readouterr().out  # the scores are not lost
    call("evaluate-image", out / "last.pt", "--data", root, "--skip-broken")
    result = json.loads((out / "last.val.json").read_text())
    assert (result["images"], result["left_out"]) == (5, 1)


@pytest.mark.parametrize(
    ("words", "beyond"),
    [
        (["--epochs", "1"], "30 60 90"),
        (["--epochs", "1", "--schedule", "cosine"], None),
        (["--epochs", "2", "--milestones", "1", "2"], "2"),
        (["--epochs", "2", "--milestones", "1"], None),
    ],
)
def test_milestones_that_are_never_reached_are_told(words, beyond, tmp_path, caplog):
    call(
        "train-image", "--data", "digits", "--out", tmp_path, *SMALL, "--preset", "default", *words
    )
    told = [m for m in caplog.messages if "never reached" in m]
    assert told == [
        f"--epochs is {words[1]}, so --milestones {beyond} are never reached and do not lower the "
        "learning rate: give others, or --schedule cosine"
    ] * (beyond is not None)


def test_fine_tuning_of_gc_resnet_starts_as_the_plain_one(tmp_path, monkeypatch, caplog):
    """The preset with a small network under the name of its model."""
    small = Shape(Bottleneck, (1, 2), width=16)
    for name, parts in (("resnet50", {}), ("gc_resnet50", {"attention": GlobalContext})):
        monkeypatch.setitem(registry._ARCHITECTURES, name, registry._resnet(small, **parts))
    plain = create_model("resnet50", 3).eval()
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    options = ["--data", tiny_images.write_folders(tmp_path / "data"), "--preset", "gc_finetune"]
    options += ["--weights", tmp_path / "plain.pth", "--out", tmp_path / "out", "--workers", "1"]
    options += ["--image-size", "16", "--resize", "20", "--batch-size", "4", "--epochs", "1"]
    call("train-image", *options, "--lr", "1e-30")
    assert "starts from --weights" not in caplog.text
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert (settings["--model"], settings["--schedule"]) == ("gc_resnet50", "cosine")
    trained = weights(tmp_path / "out" / "last.pt")
    for key, parameter in plain.named_parameters():
        torch.testing.assert_close(trained[key], parameter, rtol=0, atol=1e-20, msg=key)
    model = create_model("gc_resnet50", 3, weights=tmp_path / "plain.pth").eval()
    images = torch.randn(2, 3, 20, 24)
    assert sum(isinstance(module, GlobalContext) for module in model.modules()) == 3
    torch.testing.assert_close(model(images), plain(images))


def test_weights_need_their_model(tmp_path):
    with pytest.raises(UserError, match="--weights needs --model"):
        call("evaluate-image", "--weights", tmp_path / "x.pth", "--data", "digits")
    with pytest.raises(UserError, match="either a checkpoint or --weights"):
        call("evaluate-image", "--data", "digits")


@pytest.mark.parametrize("option", ["--model", "--image-size", "--resize"])
def test_a_checkpoint_has_its_own_model_and_crops(option, tmp_path):
    with pytest.raises(UserError, match=f"{option} is for --weights; a checkpoint has its own"):
        call("evaluate-image", tmp_path / "x.pt", "--data", "digits", option, "288")


@pytest.mark.parametrize("word", ["shared_norm", "=1", "a=[1"])
def test_wrong_switches_are_named(word, tmp_path):
    with pytest.raises(UserError, match="must be KEY=VALUE"):
        call("train-image", "--data", "digits", "--out", tmp_path / "x", "--cgc", word)


def test_wrong_input_is_one_line_and_leaves_nothing(tmp_path, capsys):
    options = ["--data", "digits", "--out", tmp_path / "out", "--batch-size", "5000"]
    with pytest.raises(SystemExit) as end:
        run_main(lambda: call("train-image", *options))
    expected = "error: --batch-size is 5000, but there are only 1437 training images\n"
    assert capsys.readouterr().err == expected and end.value.code == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_killed_in_mid_epoch_and_resumed(tmp_path):
    options = ["--data", "digits", "--model", "resnet8_cifar", "--epochs", "3", "--device", "cpu"]
    options += ["--seed", "5", "--save-updates", "7"]
    places = {(1, 7), (1, 14), (1, 21), (2, 0), (2, 7)}
    assert_killed_is_as_whole("train-image", options, tmp_path, places)


@pytest.mark.slow
def test_two_processes_train_alike_and_resume(tmp_path, monkeypatch):
    result = torchrun(Path(__file__).parents[2] / "two_processes.py", tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert_same(weights(tmp_path / "part" / "last.pt"), weights(tmp_path / "whole" / "last.pt"))
    # Their shares of the images, put together, are all of them, each once.
    subject = load_trained(tmp_path / "whole" / "last.pt")
    alone = evaluate(
        subject.model, tiny_images.tiny_data().val, tiny_images.ALONE, batch_size=9, workers=0
    )
    line = read_log(tmp_path / "whole")[-1]
    assert line["val_top1"] == pytest.approx(alone.top1)
    assert line["val_loss"] == pytest.approx(alone.loss, rel=1e-5)
    # Without batch statistics four parts of a batch are four, in two processes or one.
    monkeypatch.setattr(settings_module, "create_model", tiny_images.linear)
    with one_thread():
        tiny_images.trainer(tmp_path / "alone", tiny_images.tiny_settings(accumulate=4)).run()
    together, one = (weights(tmp_path / name / "last.pt") for name in ("linear", "alone"))
    for name in one:
        torch.testing.assert_close(together[name], one[name])


@pytest.mark.slow
def test_torchrun_with_the_command(tmp_path):
    out = tmp_path / "out"
    options = ["--data", "digits", "--out", out, "--model", "resnet8_cifar", "--epochs", "1"]
    options += ["--warmup-epochs", "0"]
    result = torchrun("-m", "fairseq_cgc", "train-image", *options)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("best.pt: epoch 1") == 1
    assert json.loads((out / "settings.json").read_text())["processes"] == 2
    with pytest.raises(UserError, match="was trained with processes 2, now it is 1"):
        call("train-image", *options)
