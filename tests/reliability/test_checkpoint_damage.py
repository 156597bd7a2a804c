"""Checkpoints that are damaged, or of something else: one clear line, whatever reads them."""

from __future__ import annotations

import random
import shutil
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import checkpoint_routes
import demo_training
import pytest
import torch
import warm
from conftest import Trained
from fairseq import checkpoint_utils

import fairseq_cgc.models  # noqa: F401  (repairs the reader of fairseq)
from fairseq_cgc.core import UserError
from fairseq_cgc.support.checkpoints import read_safely, safe_load

pytestmark = [pytest.mark.reliability, pytest.mark.xdist_group("reliability")]

READERS: dict[str, Callable[[Path], Any]] = {
    "safe_load": safe_load,
    "read_safely": read_safely,
    "load_checkpoint_to_cpu": lambda path: checkpoint_utils.load_checkpoint_to_cpu(str(path)),
}


def one_line(result: warm.Result) -> str:
    """The error of a command that ended with a single line."""
    assert result.status == 1, result.output[-3000:]
    assert "Traceback" not in result.output, result.output[-3000:]
    [line] = result.errors
    return line


def flip(path: Path, place: int, bit: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(place)
        (byte,) = stream.read(1)
        stream.seek(place)
        stream.write(bytes([byte ^ 1 << bit]))


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and str(one) == str(other)


@pytest.mark.slow
@pytest.mark.parametrize("reader", [*READERS])
def test_truncated_at_random_places(reader: str, trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    shutil.copy(trained.last, path)
    draw, size = random.Random(1), path.stat().st_size
    places = [draw.randrange(size) for _ in range(90)] + [size - n for n in (1, 2, 22, 100, 4000)]
    for place in sorted([*places, 0, 1, 4, 100, 4000], reverse=True):
        with path.open("r+b") as stream:
            stream.truncate(place)
        with pytest.raises(UserError, match=r"cut\.pt is damaged") as error:
            READERS[reader](path)
        assert "\n" not in str(error.value)


def _content(path: Path, part: zipfile.ZipInfo) -> range:
    """The bytes of a part's content, without the header before it."""
    with path.open("rb") as file:
        file.seek(part.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    start = part.header_offset + 30 + name + extra
    return range(start, start + part.compress_size)


@pytest.mark.slow
@pytest.mark.parametrize("reader", [*READERS])
def test_flipped_bits_are_noticed_or_do_no_harm(
    reader: str, trained: Trained, tmp_path: Path
) -> None:
    path = tmp_path / "flipped.pt"
    shutil.copy(trained.last, path)
    whole = READERS[reader](path)
    with zipfile.ZipFile(path) as archive:
        pickled = next(part for part in archive.infolist() if part.filename.endswith("data.pkl"))
        directory = archive.start_dir
        contents = [_content(path, part) for part in archive.infolist()]
    ranges = {
        "anywhere": (0, path.stat().st_size),
        "pickle": (pickled.header_offset, pickled.header_offset + pickled.file_size + 60),
        "directory": (directory, path.stat().st_size),
    }
    draw, noticed = random.Random(2), dict.fromkeys(ranges, 0)
    for name, (start, end) in ranges.items():
        for _ in range(40):
            place, bit = draw.randrange(start, end), draw.randrange(8)
            # What lies between the contents depends on the length of the paths in the file.
            while name == "anywhere" and not any(place in content for content in contents):
                place = draw.randrange(start, end)
            flip(path, place, bit)
            try:
                assert equal(READERS[reader](path), whole), (name, place, bit)
                assert not any(place in content for content in contents), (name, place, bit)
            except UserError as error:
                assert "\n" not in str(error)
                noticed[name] += 1
            flip(path, place, bit)
    assert noticed["anywhere"] == 40
    assert noticed["pickle"] > 35


@pytest.mark.parametrize("route", ["train --restore-file", "generate", "fairseq-cgc average"])
def test_commands_tell_of_a_flipped_bit(route: str, trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "flipped.pt"
    shutil.copy(trained.last, path)
    flip(path, path.stat().st_size // 2, 3)
    line = one_line(checkpoint_routes.give(route, trained.data, path, tmp_path))
    assert "flipped.pt is damaged: the checksum of " in line


@pytest.mark.parametrize("route", ["train --restore-file", "fairseq-cgc translate"])
def test_commands_tell_of_a_truncated_file(route: str, trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    path.write_bytes(trained.last.read_bytes()[:-1000])
    line = one_line(checkpoint_routes.give(route, trained.data, path, tmp_path))
    assert "cut.pt is damaged, or not a checkpoint at all" in line


@pytest.fixture(scope="session")
def lightconv(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of fairseq's LightConv, of the size of ours."""
    folder = tmp_path_factory.mktemp("lightconv")
    sizes = [
        *("--encoder-embed-dim", "128", "--encoder-ffn-embed-dim", "256", "--encoder-layers", "4"),
        *("--decoder-embed-dim", "128", "--decoder-ffn-embed-dim", "256", "--decoder-layers", "4"),
        *("--encoder-attention-heads", "4", "--decoder-attention-heads", "4"),
        *("--encoder-kernel-size-list", "[3,7,15,31]", "--decoder-kernel-size-list", "[3,7,15,31]"),
        *("--encoder-conv-type", "lightweight", "--decoder-conv-type", "lightweight"),
        *("--encoder-glu", "False", "--decoder-glu", "False"),
    ]
    options = ["--arch", "lightconv", *sizes, "--max-update", "1"]
    result = demo_training.train(trained.data, folder / "save", *options)
    assert result.status == 0, result.output[-3000:]
    return folder / "save" / "checkpoint_last.pt"


@pytest.fixture(scope="session")
def other_data(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same data with one more word in its dictionary."""
    data = tmp_path_factory.mktemp("other") / "bin"
    shutil.copytree(trained.data, data)
    for lang in ("de", "en"):
        with (data / f"dict.{lang}.txt").open("a") as stream:
            stream.write("new 1\n")
    return data


def test_lightconv_in_place_of_cgc(trained: Trained, lightconv: Path, tmp_path: Path) -> None:
    give = checkpoint_routes.give
    line = one_line(give("train --restore-file", trained.data, lightconv, tmp_path))
    assert "the checkpoint has no gates" in line and "--init-from-lightconv PATH" in line
    both = warm.run(
        tmp_path / "log", "fairseq-cgc average", lightconv, trained.last,
        "--output", tmp_path / "average.pt",
    )  # fmt: skip
    assert "checkpoint_last.pt has no parameter encoder.layers.0.conv.gate." in one_line(both)


@pytest.mark.parametrize(
    ("route", "missing"),
    [("train --restore-file", "all"), ("generate", "one"), ("fairseq-cgc translate", "all")],
)
def test_gates_are_missing(route: str, missing: str, trained: Trained, tmp_path: Path) -> None:
    model = safe_load(trained.last)["model"]
    gates = [name for name in model if ".gate." in name]
    for name in gates if missing == "all" else gates[:1]:
        del model[name]
    path = trained.changed(tmp_path / "x.pt", model=model)
    line = one_line(checkpoint_routes.give(route, trained.data, path, tmp_path))
    told = f"{gates[0]} is missing (1 missing" if missing == "one" else "has no gates: it is not of"
    assert told in line


@pytest.mark.parametrize("route", ["train --restore-file", "generate", "fairseq-cgc translate"])
def test_other_dictionary(route: str, trained: Trained, other_data: Path, tmp_path: Path) -> None:
    line = one_line(checkpoint_routes.give(route, other_data, trained.last, tmp_path))
    assert "dictionary has" in line or "embed_tokens.weight" in line


@pytest.mark.parametrize("route", ["train --restore-file", "train --init-from-lightconv"])
def test_other_architecture(route: str, trained: Trained, tmp_path: Path) -> None:
    model = {
        name.replace("layers.3", "layers.4"): value
        for name, value in safe_load(trained.last)["model"].items()
    }
    path = trained.changed(tmp_path / "x.pt", model=model)
    line = one_line(checkpoint_routes.give(route, trained.data, path, tmp_path))
    assert "is of another architecture: decoder.layers.3.conv.weight is missing" in line


def test_other_architecture_for_a_model_of_fairseq(trained: Trained, tmp_path: Path) -> None:
    options = ["--arch", "transformer_iwslt_de_en", "--restore-file", trained.last]
    line = one_line(demo_training.train(trained.data, tmp_path / "save", *options))
    assert "checkpoint_last.pt does not fit: " in line and "size mismatch" in line


def test_unknown_architecture(trained: Trained, tmp_path: Path) -> None:
    cfg = safe_load(trained.last)["cfg"]
    cfg["model"]["_name"] = "unheard_of"
    path = trained.changed(tmp_path / "x.pt", cfg=cfg)
    for route in ("generate", "fairseq-cgc translate"):
        line = one_line(checkpoint_routes.give(route, trained.data, path, tmp_path))
        assert "x.pt is a model of unknown architecture" in line


@pytest.mark.parametrize("content", [{}, {"model": {}}, [1], {"fc.weight": torch.ones(2)}], ids=str)
def test_no_checkpoint_of_fairseq(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"x\.pt is not a .*fairseq"):
        checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "x.pt"))


@pytest.mark.parametrize("route", ["train --restore-file", "generate"])
def test_commands_tell_of_a_file_of_something_else(
    route: str, trained: Trained, tmp_path: Path
) -> None:
    torch.save({"model": {}}, tmp_path / "x.pt")
    line = one_line(checkpoint_routes.give(route, trained.data, tmp_path / "x.pt", tmp_path))
    assert "x.pt is not a checkpoint of fairseq-train" in line


@pytest.mark.parametrize(
    "route", ["train --init-from-lightconv", "generate", "fairseq-cgc translate"]
)
def test_missing_file(route: str, trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "absent.pt"
    assert "absent.pt" in one_line(checkpoint_routes.give(route, trained.data, path, tmp_path))


def test_translation_and_images_are_told_apart(trained: Trained, tmp_path: Path) -> None:
    for route, told in (
        ("fairseq-cgc evaluate-image", "is not a checkpoint of fairseq-cgc train-image"),
        ("fairseq-cgc evaluate-image --weights", "has no fc.weight and conv1.weight"),
    ):
        line = one_line(checkpoint_routes.give(route, trained.data, trained.last, tmp_path))
        assert told in line
