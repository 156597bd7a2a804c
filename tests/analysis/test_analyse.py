"""fairseq-cgc analyse on tiny models, within this process."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_videos
import torch
from our_commands import ENVIRONMENT, call
from PIL import Image

from fairseq_cgc.core import UserError
from fairseq_cgc.video.data.motion import CLASSES
from fairseq_cgc.video.settings import VideoSettings
from fairseq_cgc.vision import create_model
from fairseq_cgc.vision.training.checkpoints import Checkpoint, Progress
from fairseq_cgc.vision.training.settings import Settings

pytest.importorskip("matplotlib")
DIGITS = tuple(map(str, range(10)))


@pytest.fixture
def analyse() -> Callable[..., None]:
    return functools.partial(call, "analyse")


def save(path: Path, name: str, classes: tuple[str, ...], channels: int) -> Path:
    model = create_model(name, len(classes), in_channels=channels)
    settings = Settings(model=name, image_size=16, resize=18)
    Checkpoint(settings, classes, channels, model.state_dict(), {}, {}, Progress()).save(path)
    return path


@pytest.fixture
def gated(tmp_path) -> Path:
    return save(tmp_path / "best.pt", "resnet8_cifar_cgc", DIGITS, 1)


def numbers(path: Path) -> dict[str, Any]:
    assert path.read_bytes().startswith(b"\x89PNG")
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def test_kernels_command_writes_the_distances(analyse, gated, tmp_path, capsys):
    pytest.importorskip("sklearn")
    out = tmp_path / "kernels.png"
    analyse("kernels", gated, "--data", "digits", "--layer", "layer1.0.conv2", "--out", out)
    found = numbers(out)
    assert found["layer"] == "layer1.0.conv2" and sum(found["samples"]) == 360
    assert len(found["inter"]) == len(found["intra"]) == 10
    assert found["shuffled"] < 10 and found["versions"]["torch"] == torch.__version__
    assert f"{found['percentage']:.2f}% of pairs" in capsys.readouterr().out


def test_cam_of_a_data_set(analyse, gated, tmp_path):
    pytest.importorskip("sklearn")
    out = tmp_path / "cam.png"
    analyse("cam", gated, "7", "3", "--data", "digits", "--class", "4", "--out", out)
    found = numbers(out)
    assert found["layer"] == "layer3.0.conv2"
    assert [row["image"] for row in found["images"]] == ["val 7", "val 3"]
    assert {row["explained"] for row in found["images"]} == {"4"}
    context = torch.tensor(found["images"][0]["context"])
    assert context.shape == (3, 3) and context.max() <= 1


def test_cam_of_files_and_a_plain_model(analyse, tmp_path):
    checkpoint = save(tmp_path / "plain.pt", "resnet8_cifar", ("cat", "dog"), 3)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("x.png", "y.png"):
        Image.effect_noise((30, 20), 60).convert("RGB").save(folder / name)
    out = tmp_path / "cam.png"
    analyse("cam", checkpoint, folder, "--layer", "layer2.0.conv1", "--out", out)
    rows = numbers(out)["images"]
    assert [row["image"] for row in rows] == ["x.png", "y.png"]
    assert all(row["true"] is None and row["explained"] == row["predicted"] for row in rows)
    assert "context" not in rows[0] and len(rows[0]["before"]) == 16
    analyse("cam", checkpoint, folder, "--out", out)
    assert numbers(out)["layer"] == "layer3.0.conv2"


def save_video(path: Path, name: str, classes: tuple[str, ...] = CLASSES) -> Path:
    path.parent.mkdir(exist_ok=True)
    settings = VideoSettings(
        model=name, backbone="resnet8_cifar", num_frames=4, image_size=12, resize=16,
        template="img_{:05d}.png",
    )  # fmt: skip
    model = settings.create_model(len(classes), 1 if classes == CLASSES else 3)
    channels = model.conv1.in_channels
    Checkpoint(settings, classes, channels, model.state_dict(), {}, {}, Progress()).save(path)
    return path


def test_cam_of_two_models_in_one_figure(analyse, gated, tmp_path):
    pytest.importorskip("sklearn")
    plain = save(tmp_path / "plain.pt", "resnet8_cifar", DIGITS, 1)
    out = tmp_path / "cam.svg"
    analyse("cam", plain, gated, "7", "3", "--data", "digits", "--out", out)
    found = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))["models"]
    assert [model["model"] for model in found] == ["resnet8_cifar", "resnet8_cifar_cgc"]
    assert [model["checkpoint"] for model in found] == ["plain.pt", "best.pt"]
    explained = [[row["explained"] for row in model["images"]] for model in found]
    assert explained[0] == explained[1] == [row["true"] for row in found[0]["images"]]
    assert ["context" in model["images"][0] for model in found] == [False, True]
    text = out.read_text(encoding="utf-8")
    assert ">resnet8_cifar<" in text and ">resnet8_cifar_cgc<" in text
    analyse("cam", plain, gated, "7", "--data", "digits", "--names", "$a", "_b", "--out", out)
    text = out.read_text(encoding="utf-8")
    assert ">$a<" in text and ">_b<" in text
    with pytest.raises(UserError, match="--names has 1 names, but there are 2 checkpoints"):
        analyse("cam", plain, gated, "--data", "digits", "--names", "a", "--out", out)
    with pytest.raises(UserError, match="resnet8_cifar: --layer is 'x', but must be one of conv1"):
        analyse("cam", plain, gated, "--data", "digits", "--layer", "x", "--out", out)


def test_cam_and_kernels_of_clips(analyse, tmp_path):
    models = [save_video(tmp_path / name / "best.pt", name) for name in ("tsm", "tsm_cgc")]
    out = tmp_path / "clips.png"
    analyse("cam", *models, "3", "--data", "motion", "--out", out)
    plain, gated = numbers(out)["models"]
    [video] = gated["videos"]
    assert (video["video"], video["true"], video["explained"]) == ("val 3", "closing", "closing")
    assert torch.tensor(video["after"]).shape == (4, 6, 6)
    assert torch.tensor(video["context"]).shape == (3, 3, 3)
    assert "context" not in plain["videos"][0]
    options = ("--data", "motion", "--layer", "layer1.0.conv1", "--out", out)
    analyse("kernels", models[1], models[1], "--names", "a", "b", *options)
    first, second = numbers(out)["models"]
    assert first == second and first["classes"] == list(CLASSES)
    assert torch.tensor(first["mean absolute weight"]).shape == (4, 4, 3, 3)
    with pytest.raises(UserError, match="tsm: VideoResNet has no gated convolution"):
        analyse("kernels", *models, *options)
    with pytest.raises(UserError, match="with --data, videos are numbers from 0 to 239"):
        analyse("cam", models[0], "240", "--data", "motion", "--out", out)


def test_cam_of_folders_of_frames(analyse, tmp_path):
    model = save_video(tmp_path / "m" / "best.pt", "tsn", ("a", "b"))
    folder = tiny_videos.write_videos(tmp_path / "data") / "train" / "video 1"
    out = tmp_path / "cam.png"
    analyse("cam", model, folder, "--out", out)
    [video] = numbers(out)["videos"]
    assert video["video"] == "video 1" and video["explained"] == video["predicted"]
    with pytest.raises(UserError, match="nothing: there is no such folder"):
        analyse("cam", model, tmp_path / "nothing", "--out", out)
    with pytest.raises(UserError, match="data holds no img_00001.png, the first frame"):
        analyse("cam", model, tmp_path / "data", "--out", out)
    with pytest.raises(UserError, match="give folders of frames, or --data"):
        analyse("cam", model, "--out", out)


def test_images_and_videos_have_nothing_in_common(analyse, gated, tmp_path):
    video = save_video(tmp_path / "m" / "best.pt", "tsn")
    with pytest.raises(UserError, match="best.pt and .*best.pt differ in their command"):
        analyse("cam", gated, video, "--data", "motion", "--out", tmp_path / "x.png")
    with pytest.raises(UserError, match="--list is for video models"):
        analyse("cam", gated, "--data", "digits", "--list", "x", "--out", tmp_path / "x.png")


def test_results_of_an_experiment(analyse, tmp_path):
    rows = [{"system": "cgc", "beam": 5, "bleu": [40.0, 41.0]}]
    path, out = tmp_path / "results.json", tmp_path / "results.svg"
    path.write_text(json.dumps({"protocol": "multi30k", "split": "test", "rows": rows}))
    analyse("results", path, "--out", out)
    assert ">40.50 ± 0.71<" in out.read_text(encoding="utf-8")
    for content in ("[]", "{", '{"rows": [{"system": "x"}]}', '{"rows": 1}'):
        path.write_text(content)
        with pytest.raises(UserError, match="results.json is no results.json of fairseq-cgc"):
            analyse("results", path, "--out", out)
    with pytest.raises(UserError, match="nothing.json: cannot be read"):
        analyse("results", tmp_path / "nothing.json", "--out", out)


def test_curves_of_either_kind_but_not_both(analyse, tmp_path):
    line = {"epoch": 1, "train_loss": 1, "train_top1": 50, "val_loss": 1, "val_top1": 40}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    text = tmp_path / "mt"
    text.mkdir()
    summary = {"epoch": 1, "train_nll_loss": "5.1", "train_num_updates": "10"}
    (text / "train.log").write_text(json.dumps(summary) + "\n", encoding="utf-8")
    out = tmp_path / "curves.png"
    analyse("curves", tmp_path / "one", tmp_path / "two" / "train.jsonl", "--out", out)
    of_images = out.read_bytes()
    analyse("curves", text, "--out", out)
    assert out.read_bytes() != of_images and not out.with_suffix(".json").exists()
    with pytest.raises(UserError, match="one trained an image model and .*mt did not"):
        analyse("curves", text, tmp_path / "one", "--out", out)
    with pytest.raises(UserError, match="--names has 1 names, but there are 2 runs"):
        analyse("curves", text, text, "--names", "a", "--out", out)
    with pytest.raises(UserError, match="neither train.jsonl .* nor train.log"):
        analyse("curves", tmp_path, "--out", out)


@pytest.mark.slow
def test_commands_with_a_translation_model(analyse, toy_model, toy_data, tmp_path, capsys):
    data = shutil.copytree(toy_data, tmp_path / "bin")
    preparation = {
        **{"source_lang": "de", "target_lang": "en", "tokenizer": "none", "normalize": False},
        **{"lowercase": False, "subwords": "subword_nmt", "subword_model": "code"},
        "joined_dictionary": True,
    }
    (data / "preparation.json").write_text(json.dumps(preparation), encoding="utf-8")
    (data / "code").write_text("#version: 0.2\nd e\nde r</w>\n", encoding="utf-8")
    out = tmp_path / "gates.png"
    words = ("gates", toy_model / "checkpoint_best.pt", "--data", data, "--out", out)
    analyse(*words, "--split", "test", "train", "--limit", "30")
    found = numbers(out)
    assert found["sentences"] == {"test": 30, "train": 30}
    assert list(found["adjusted R^2"]) == ["all", "layers.0.conv", "layers.1.conv"]
    assert 0.05 < found["adjusted R^2"]["all"]["length"] < 1
    assert abs(found["adjusted R^2"]["all"]["corpus"]) < 0.3
    out = tmp_path / "context.png"
    words_of_context = ("context", toy_model / "checkpoint_best.pt", "--data", data, "--out", out)
    analyse(*words_of_context, "--split", "test", "--limit", "20")
    found = numbers(out)
    assert (found["split"], found["sentences"]) == ("test", 20)
    increase = found["increases"]["mean"]["all"]
    assert list(found["increases"]) == ["mean", "same length"] and increase["error"] > 0
    printed = capsys.readouterr().out
    assert f"{found['nll']:.3f} bits per subword with the model's own gates\n" in printed
    assert f"{increase['mean']:+.4f} ± {increase['error']:.4f} with the mean gates" in printed
    with pytest.raises(UserError, match="--limit is -1"):
        analyse(*words_of_context, "--limit", "-1")
    (data / "valid.de-en.en.bin").unlink()
    with pytest.raises(UserError, match="has no en side of 'valid' to score"):
        analyse(*words_of_context)
    sentence = tmp_path / "sentence.svg"
    model = toy_model / "checkpoint_best.pt"
    analyse("sentence", model, "der Hund", "--data", data, "--out", sentence)
    found = json.loads(sentence.with_suffix(".json").read_text(encoding="utf-8"))
    assert found["sentence"] == "der Hund" and len(found["gates"]) == 2
    label, gates = next(iter(found["gates"].items()))
    assert f">(a) {label}<" in sentence.read_text(encoding="utf-8")
    assert label == f"encoder layer 1 (K = {len(gates[0])})"
    with pytest.raises(UserError, match="the sentence is empty"):
        analyse("sentence", model, " ", "--data", data, "--out", sentence)
    with pytest.raises(UserError, match="--limit is -1"):
        analyse(*words, "--limit", "-1")
    with pytest.raises(UserError, match="--layer is 'x', but must be one of layers.0.conv"):
        analyse(*words, "--layer", "x")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer", "fc"], "--layer is 'fc', but must be one of conv1, layer1.0.conv1"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--out", "kernels.gif"], "--out is kernels.gif, but must end in .png, .pdf or .svg"),
        (["--out", "nowhere/k.png"], "there is no folder nowhere"),
    ],
)
def test_wrong_options_are_reported(analyse, gated, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        analyse("kernels", gated, "--data", "digits", "--out", "k.png", *words)
    assert list(tmp_path.iterdir()) == [gated]


def test_wrong_images_and_classes_are_reported(analyse, gated, tmp_path):
    pytest.importorskip("sklearn")
    out = tmp_path / "cam.png"
    with pytest.raises(UserError, match="--class is 'x', but must be one of 0, 1, 2"):
        analyse("cam", gated, "--data", "digits", "--class", "x", "--out", out)
    plain = save(tmp_path / "plain.pt", "resnet8_cifar", DIGITS, 1)
    with pytest.raises(UserError, match="ResNet has no gated convolution"):
        analyse("kernels", plain, "--data", "digits", "--out", out)
    assert not out.exists()


def test_translation_needs_no_image_libraries():
    code = (
        "import sys; sys.modules.update(PIL=None)\n"
        "from fairseq_cgc.__main__ import main\n"
        "main(['analyse', 'gates', '--help'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "--data DATA_BIN" in done.stdout
