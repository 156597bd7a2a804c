"""fairseq-cgc prepare-multi30k as a user runs it."""

import pytest
from our_commands import call, run_command
from tools import SHARED

from fairseq_cgc.commands import prepare_multi30k
from fairseq_cgc.inference.text.lines import read_lines
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import sha256_of

DATA = SHARED / "data"
NAMES = ("train", "val", "test_2016_flickr", "test_2017_flickr")

needs_data = pytest.mark.skipif(not (DATA / "multi30k").is_dir(), reason="needs shared/data")


def run(*arguments):
    return run_command("prepare-multi30k", *arguments, text=True)


@pytest.fixture
def folder(tmp_path):
    """A toy corpus under Multi30k's names, plain files."""
    path = tmp_path / "raw"
    path.mkdir()
    for name in NAMES:
        (path / f"{name}.de").write_text("Ein Hund läuft.\nEin Hund.\n" * 3, encoding="utf-8")
        (path / f"{name}.en").write_text("A dog runs.\nA dog.\n" * 3, encoding="utf-8")
    return path


def test_plain_files_other_direction(folder, tmp_path):
    out = tmp_path / "out"
    result = run(
        out, "--from", folder, "--source-lang", "en", "--target-lang", "de", "--bpe-size", 20,
        "--workers", 1, "--separate-dictionaries",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    last = result.stdout.splitlines()[-1]
    assert last.startswith(
        f"fairseq-train {out / 'bin'} | pairs: train 6, valid 6, test 6, test1 6"
    )
    assert "dropped from train: 0" in last
    assert (out / "bin" / "test1.en-de.de.bin").is_file()
    assert (out / "bin" / "preparation.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source-lang", "fr"], "--source-lang is fr, but must be de or en"),
        (["--target-lang", "de"], "--source-lang and --target-lang are both de"),
        (["--bpe-size", "0"], "--bpe-size is 0, but must be positive"),
        (["--from", "nowhere"], "--from nowhere has neither train.de.gz nor train.de"),
    ],
)
def test_errors_are_one_line(tmp_path, folder, arguments, message):
    with pytest.raises(UserError) as caught:
        call("prepare-multi30k", tmp_path / "out", "--from", folder, *arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_exit_status_of_an_error(folder, tmp_path):
    (folder / "val.de").write_text("Nur eine Zeile.\n")
    result = run(tmp_path / "out", "--from", folder)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert "val.de has 1 lines, but" in result.stderr
    assert "Traceback" not in result.stderr


@needs_data
def test_checksums_are_those_of_the_data_set():
    assert {
        name: sha256_of(DATA / "multi30k" / name) for name in prepare_multi30k.SHA256
    } == prepare_multi30k.SHA256
    expected = {f"{name}.{lang}.gz" for name in NAMES for lang in ("de", "en")}
    assert set(prepare_multi30k.SHA256) == expected


@needs_data
def test_download_and_resume(monkeypatch, tmp_path):
    monkeypatch.setattr(prepare_multi30k, "URL", (DATA / "multi30k").as_uri())
    path = prepare_multi30k.raw_file("val", "de", None, tmp_path)
    assert path == tmp_path / "download" / "val.de.gz"
    monkeypatch.setattr(prepare_multi30k, "URL", (tmp_path / "gone").as_uri())
    assert prepare_multi30k.raw_file("val", "de", None, tmp_path) == path
    with pytest.raises(UserError, match=r"val\.en\.gz: download failed"):
        prepare_multi30k.raw_file("val", "en", None, tmp_path)


@pytest.mark.network
def test_public_address_can_be_downloaded(tmp_path):
    assert prepare_multi30k.raw_file("val", "en", None, tmp_path).is_file()


@needs_data
@pytest.mark.slow
def test_real_preparation_equals_a_published_one(tmp_path):
    """Same BPE codes and text, to the byte, as that of "Good for Misconceived Reasons"."""
    published = DATA / "multi30k-bpe-en-de"
    out = tmp_path / "out"
    result = run(out, "--from", DATA / "multi30k")
    assert result.returncode == 0, result.stderr
    assert "train 29000, valid 1014, test 1000, test1 1000; dropped from train: 0" in result.stdout
    assert "dictionary (joined): de 9712, en 9712" in result.stdout
    assert (out / "bpe" / "code").read_bytes() == (published / "code").read_bytes()
    for ours, theirs in (("train", "train"), ("valid", "valid"), ("test", "test.2016")):
        for lang in ("de", "en"):
            lines = list(read_lines(out / "bpe" / f"{ours}.{lang}"))
            # One published English line ends in a space.
            assert lines == [line.rstrip() for line in read_lines(published / f"{theirs}.{lang}")]
