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
import torch
from our_commands import ENVIRONMENT, call
from PIL import Image

from fairseq_cgc.core import UserError
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


def test_kernels(analyse, gated, tmp_path, capsys):
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
def test_gates(analyse, toy_model, toy_data, tmp_path):
    data = shutil.copytree(toy_data, tmp_path / "bin")
    preparation = {
        **{"source_lang": "de", "target_lang": "en", "tokenizer": "none", "normalize": False},
        **{"lowercase": False, "subwords": "subword_nmt", "subword_model": "code"},
        "joined_dictionary": True,
    }
    (data / "preparation.json").write_text(json.dumps(preparation), encoding="utf-8")
    out = tmp_path / "gates.png"
    words = ("gates", toy_model / "checkpoint_best.pt", "--data", data, "--out", out)
    analyse(*words, "--split", "test", "train", "--limit", "30")
    found = numbers(out)
    assert found["sentences"] == {"test": 30, "train": 30}
    assert list(found["adjusted R^2"]) == ["all", "layers.0.conv", "layers.1.conv"]
    assert 0.05 < found["adjusted R^2"]["all"]["length"] < 1
    assert abs(found["adjusted R^2"]["all"]["corpus"]) < 0.3
    with pytest.raises(UserError, match="--limit is -1"):
        analyse(*words, "--limit", "-1")
    with pytest.raises(UserError, match="--layer is 'x', but must be one of layers.0.conv"):
        analyse(*words, "--layer", "x")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer", "fc"], "--layer is 'fc', but must be one of conv1, layer1.0.conv1"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--out", "kernels.pdf"], "--out is kernels.pdf, but must end in .png"),
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
