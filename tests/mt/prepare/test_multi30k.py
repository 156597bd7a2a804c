"""Multi30k as released with BPE, binarised."""

from __future__ import annotations

from pathlib import Path

import pytest
from release import write_release

from fairseq_cgc.inference.binarised import split_files
from fairseq_cgc.inference.text.pipeline import TextPipeline
from fairseq_cgc.mt.prepare.multi30k import binarize_multi30k, is_released_multi30k
from fairseq_cgc.support.errors import UserError


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release") / "text")


def test_it_becomes_a_data_folder_once(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    assert is_released_multi30k(release)
    (release / "test.2017.en").write_text("the man .\n", encoding="utf-8")
    (release / "test.2017.de").write_text("der mann .\n", encoding="utf-8")
    binarize_multi30k(release, data, "en", "de")
    for split in ("train", "valid", "test", "test1"):
        assert len(split_files(data, split, ("en", "de"))) == 2
    assert (data / "dict.en.txt").read_bytes() == (data / "dict.de.txt").read_bytes()
    assert not (data / "text").exists() and not is_released_multi30k(data)
    pipeline = TextPipeline.load(data)
    # The release's own lines come out of their tokens again.
    lines = (release / "test.2016.en").read_text(encoding="utf-8").splitlines()
    assert list(map(pipeline.encoder("en"), map(pipeline.remove_subwords, lines))) == lines
    assert any("@@ " in line for line in lines)

    def make(*args: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("fairseq_cgc.mt.prepare.multi30k.make_step", make)
    binarize_multi30k(release, data, "en", "de")
    (release / "valid.en").write_text(
        (release / "valid.en").read_text(encoding="utf-8").replace(" .", " !", 1), encoding="utf-8"
    )
    with pytest.raises(UserError, match=r"was made with valid\.en \(SHA-256\)"):
        binarize_multi30k(release, data, "en", "de")


def test_what_is_missing_or_uneven_is_named(tmp_path: Path) -> None:
    release = write_release(tmp_path / "text")
    (release / "train.en").write_text("one line\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"train\.en has 1 lines, but .*train\.de has 240"):
        binarize_multi30k(release, tmp_path / "data", "en", "de")
    (release / "code").unlink()
    with pytest.raises(UserError, match="has no code: not Multi30k as released with BPE"):
        binarize_multi30k(release, tmp_path / "data", "en", "de")
    assert not (tmp_path / "data").exists()
