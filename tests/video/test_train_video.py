"""fairseq-cgc train-video and evaluate-video as a user runs them."""

from __future__ import annotations

import json

import pytest
import torch
from our_commands import call
from tiny_videos import NAMES, TEMPLATE, write_videos
from training_runs import assert_killed_is_as_whole

from fairseq_cgc.core import UserError
from fairseq_cgc.support.command_line import run_main
from fairseq_cgc.video.data import motion
from fairseq_cgc.vision import create_model
from fairseq_cgc.vision.training_log import read_log

TINY = ["--model", "tsn", "--num-frames", "2", "--epochs", "2", "--workers", "0"]
FRAMES = ["--preset", "something_v1", *TINY, "--backbone", "resnet8_cifar", "--milestones", "1"]
FRAMES += ["--image-size", "12", "--resize", "16", "--batch-size", "4", "--template", TEMPLATE]


@pytest.fixture
def few_clips(monkeypatch):
    monkeypatch.setattr(motion, "_PAIRS", {"train": 10, "val": 6})


@pytest.fixture
def frames(tmp_path):
    root = write_videos(tmp_path / "data", "train", (5, 8, 3, 6, 1, 7))
    write_videos(root, "val", (4, 9, 3))
    (root / "category.txt").write_text("\n".join(NAMES))
    return root


def result(path):
    return json.loads(path.read_text())


def test_train_and_evaluate_motion(tmp_path, capsys, few_clips):
    out = tmp_path / "out"
    call("train-video", "--data", "motion", "--out", out, *TINY, "--batch-size", "10")
    settings = result(out / "settings.json")
    assert settings["--batch-size"] == 10 and settings["--weight-decay"] == 5e-4  # the preset's
    assert settings["train videos"] == 20 and settings["channels"] == 1
    call("evaluate-video", out / "last.pt", "--data", "motion")
    printed = capsys.readouterr().out
    found, line = result(out / "last.val.1x1.json"), read_log(out)[-1]
    assert found["top1"] == pytest.approx(line["val_top1"])
    assert found["loss"] == pytest.approx(line["val_loss"], rel=1e-5)
    assert f"top-1 {line['val_top1']:.2f}%" in printed and "1 x 1 views" in printed
    assert (found["videos"], found["split"], found["model"]) == (12, "val", "tsn")
    assert found["top1"] <= 50  # it cannot tell a clip from its reversal
    with pytest.raises(UserError, match="--data motion has clips, not videos: they have one view"):
        call("evaluate-video", out / "last.pt", "--data", "motion", "--views", "10")
    for command, option in (
        (["train-video", "--out", out, *TINY], "train"),
        (["train-video", "--out", out, *TINY], "val"),
        (["evaluate-video", out / "last.pt"], "classes"),
    ):
        with pytest.raises(UserError, match=f"mine.txt is a file of {option}, but --data motion"):
            call(*command, "--data", "motion", f"--{option}", tmp_path / "mine.txt")


def test_train_and_evaluate_frames(tmp_path, frames, capsys, caplog):
    out = tmp_path / "out"
    call("train-video", "--data", frames, "--out", out, *FRAMES)
    assert "--preset something_v1 is for a model that starts from --weights" in caplog.text
    settings = result(out / "settings.json")
    assert settings["classes"] == list(NAMES) and settings["--sampling"] == "segments"
    assert (settings["train videos"], settings["val videos"]) == (6, 3)
    expected = {1: (1, 1), 10: (10, 1), 30: (10, 3)}
    for views, (clips, crops) in expected.items():
        call("evaluate-video", out / "last.pt", "--data", frames, "--views", views)
        found = result(out / f"last.val.{clips}x{crops}.json")
        assert (found["clips"], found["crops"], found["videos"]) == (clips, crops, 3)
        assert (found["average"], found["left_out"]) == ("logits", 0)
    options = ["--clips", 2, "--crops", 3, "--average", "softmax", "--split", "train"]
    call("evaluate-video", out / "best.pt", "--data", frames, *options, "--batch-size", 5)
    assert result(out / "best.train.2x3.json")["average"] == "softmax"
    line = read_log(out)[-1]
    assert result(out / "last.val.1x1.json")["top1"] == pytest.approx(line["val_top1"])


def test_p3d_averages_probabilities(tmp_path, frames):
    options = [*FRAMES, "--model", "p3d_cgc1d", "--preset", "something_v1_p3d", "--epochs", 1]
    call("train-video", "--data", frames, "--out", tmp_path / "out", *options, "--milestones")
    call("evaluate-video", tmp_path / "out" / "last.pt", "--data", frames, "--clips", 2)
    assert result(tmp_path / "out" / "last.val.2x1.json")["average"] == "softmax"


def test_lists_and_names_may_lie_elsewhere(tmp_path, frames):
    train, val, names = (tmp_path / name for name in ("a.txt", "b.txt", "names.txt"))
    (frames / "train_videofolder.txt").rename(train)
    (frames / "val_videofolder.txt").rename(val)
    (frames / "category.txt").unlink()
    lists = ["--train-list", train, "--val-list", val]
    out = tmp_path / "out"
    call("train-video", "--data", frames, "--out", out, *FRAMES, *lists, "--epochs", 1,
         "--milestones")  # fmt: skip
    assert result(out / "settings.json")["classes"] == ["0", "1", "2"]
    call("evaluate-video", out / "last.pt", "--data", frames, "--list", val)
    names.write_text("falling\nrising\nstill\n")
    with pytest.raises(UserError, match="has class 'falling' where the model was trained on '0'"):
        call("evaluate-video", out / "last.pt", "--data", frames, "--list", val, "--classes", names)
    val.write_text("val/video 0 4 3\n")
    with pytest.raises(UserError, match="b.txt, line 1: the label is 3, but there are 3 classes"):
        call("evaluate-video", out / "last.pt", "--data", frames, "--list", val)


def test_broken_videos_end_a_training_or_are_counted(tmp_path, frames, caplog):
    broken = frames / "train" / "video 4" / "img_00001.png"
    broken.write_bytes(b"")
    (frames / "val" / "video 0" / "img_00002.png").unlink()
    with pytest.raises(UserError, match=f"{broken}: not an image"):
        call("train-video", "--data", frames, "--out", tmp_path / "x", *FRAMES)
    out = tmp_path / "out"
    with caplog.at_level("INFO", "fairseq_cgc"):
        call("train-video", "--data", frames, "--out", out, *FRAMES, "--batch-size", 6,
             "--skip-broken")  # fmt: skip
    assert "replaced 2 unreadable videos by the next readable ones" in caplog.text
    assert f"{broken}: not an image" in caplog.text and "1 of 3 videos left out" in caplog.text
    with pytest.raises(UserError, match="img_00002.png: there is no such frame"):
        call("evaluate-video", out / "last.pt", "--data", frames)
    call("evaluate-video", out / "last.pt", "--data", frames, "--skip-broken")
    found = result(out / "last.val.1x1.json")
    assert (found["videos"], found["left_out"]) == (2, 1)


def test_image_weights_start_a_training(tmp_path, few_clips):
    torch.manual_seed(5)
    image_model = create_model("resnet8_cifar", 10, in_channels=1)
    path, out = tmp_path / "image.pth", tmp_path / "out"
    torch.save(image_model.state_dict(), path)
    options = ["--data", "motion", "--out", out, *TINY, "--batch-size", 10, "--weights", path]
    call("train-video", *options, "--lr", "1e-9", "--weight-decay", 0)
    trained = torch.load(out / "last.pt", weights_only=True)["model"]
    torch.testing.assert_close(trained["conv1.weight"], image_model.conv1.weight.data)
    torch.save(create_model("resnet8_cifar", 10, in_channels=1).state_dict(), path)
    with pytest.raises(UserError, match=r"was trained with weights \(SHA-256\)"):
        call("train-video", *options, "--lr", "1e-9", "--weight-decay", 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "--data nowhere needs --preset, one of something_v1, "),
        (["--data", "nowhere", "--preset", "kinetics"], "nowhere, which is neither a folder nor"),
        (["--data", "motion", "--batch-size", "2000"], "there are only 960 training videos"),
        (["--data", "motion", "--model", "tsx"], "there is no model 'tsx'"),
        (["--data", "motion", "--weights", "gone.pth"], "gone.pth: cannot be read"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(options, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        run_main(lambda: call("train-video", *options, "--out", tmp_path / "out"))
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and end.value.code == 1
    assert not (tmp_path / "out").exists()


def test_a_slip_in_a_label_makes_no_enormous_model(tmp_path, frames):
    (frames / "category.txt").unlink()
    path = tmp_path / "list.txt"
    path.write_text("train/video 0 5 0\ntrain/video 0 5 100000\n")
    with pytest.raises(UserError, match=r"list.txt, line 2: the label is 100000, but must be from"):
        call("train-video", "--data", frames, "--preset", "kinetics", "--train-list", path,
             "--out", tmp_path / "out")  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--views", "10", "--clips", "2"], "--views stands for --clips and --crops"),
        (["--clips", "0"], "--clips is 0, but must be at least 1"),
        (["--batch-size", "0"], "--batch-size is 0, but must be at least 1"),
        ([], "x.pt: cannot be read"),
    ],
)
def test_wrong_evaluations_are_named(options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        call("evaluate-video", tmp_path / "x.pt", "--data", "motion", *options)


@pytest.mark.slow
def test_killed_in_mid_epoch_and_resumed(tmp_path):
    options = ["--data", "motion", "--model", "tsm", "--num-frames", "2", "--epochs", "3"]
    options += ["--batch-size", "96", "--device", "cpu", "--save-updates", "3", "--groups", "tsm"]
    options += ["--clip-norm", "5", "--dropout", "0.5"]
    places = {(1, 3), (1, 6), (1, 9), (2, 0), (2, 3)}
    assert_killed_is_as_whole("train-video", options, tmp_path, places)


@pytest.mark.slow
def test_a_shift_tells_the_order_of_frames(tmp_path):
    options = ["--data", "motion", "--out", tmp_path / "tsm", "--model", "tsm", "--epochs", "2"]
    call("train-video", *options, "--num-frames", "4", "--workers", "0")
    assert read_log(tmp_path / "tsm")[-1]["val_top1"] > 95
