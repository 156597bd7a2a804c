"""The whole preparation on a tiny corpus."""

import dataclasses
import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fairseq_cgc.inference.text.pipeline import TextPipeline
from fairseq_cgc.mt.prepare.preparation import PrepareOptions, prepare
from fairseq_cgc.support.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = PrepareOptions("de", "en", bpe_size=50, max_tokens=9)
STEPS = ("text", "bpe", "bin")
TRAIN = [
    ("Der kleine Hund läuft.", "The little dog runs."),
    ("Die Hunde schlafen.", "The dogs sleep."),
    ("Der Hund\u2028schläft.", "The dog sleeps."),
    ("", "Nothing."),
    ("Ein Satz ist hier viel zu lang für diese Grenze.", "Too long."),
] * 4


def write_corpus(folder, train=None):
    """Raw files; train is compressed, the other splits are plain."""
    folder.mkdir(exist_ok=True)
    splits = {
        "train": TRAIN if train is None else train,
        "valid": TRAIN[:2],
        "test": TRAIN[1:3],
        "test1": [("„Hund.“", "“Dog.”")],
    }
    raw = {}
    for split, pairs in splits.items():
        raw[split] = {}
        for side, lang in enumerate(("de", "en")):
            content = "".join(pair[side] + "\n" for pair in pairs).encode()
            path = folder / (f"{split}.{lang}.gz" if split == "train" else f"{split}.{lang}")
            path.write_bytes(gzip.compress(content, mtime=0) if split == "train" else content)
            raw[split][lang] = path
    return raw


@pytest.fixture
def raw(tmp_path):
    return write_corpus(tmp_path / "raw")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A finished preparation, read only by the tests: raw files, folder, result."""
    folder = tmp_path_factory.mktemp("prepared")
    files = write_corpus(folder / "raw")
    return files, folder / "out", prepare(files, folder / "out", OPTIONS)


def snapshot(folder):
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_counts_and_files(prepared):
    _, out, result = prepared
    assert result.data_dir == out / "bin"
    assert result.pairs == {"train": 12, "valid": 2, "test": 2, "test1": 1}
    assert result.dropped == 8
    assert result.dictionary_sizes["de"] == result.dictionary_sizes["en"] > 10
    lines = (out / "text" / "train.de").read_text(encoding="utf-8").splitlines()
    assert lines[:3] == ["der kleine hund läuft .", "die hunde schlafen .", "der hund schläft ."]
    assert len(lines) == 12
    for split in result.pairs:
        for lang in ("de", "en"):
            assert (out / "bin" / f"{split}.de-en.{lang}.idx").is_file()
    names = {path.name for path in out.iterdir()}
    assert names == {"text", "bpe", "bin", ".lock", "preprocess.log"}


def test_data_folder_is_self_contained(prepared):
    raw, out, result = prepared
    pipeline = TextPipeline.load(result.data_dir)
    assert (pipeline.source_lang, pipeline.target_lang) == ("de", "en")
    assert pipeline.reference_lines("test", "de") == ["Die Hunde schlafen.", TRAIN[2][0]]
    assert pipeline.reference_lines("test1", "en") == ["“Dog.”"]
    assert pipeline.reference_lines("train", "en") is None
    encoded = list(map(pipeline.encoder("en"), pipeline.reference_lines("valid", "en")))
    assert encoded == (out / "bpe" / "valid.en").read_text(encoding="utf-8").splitlines()


def test_fairseq_reads_it(prepared):
    from fairseq import tasks

    config = tasks.translation.TranslationConfig(
        data=str(prepared[2].data_dir), dataset_impl="mmap"
    )
    task = tasks.translation.TranslationTask.setup_task(config)
    task.load_dataset("valid")
    pair = task.datasets["valid"][0]
    bpe = (prepared[1] / "bpe" / "valid.de").read_text(encoding="utf-8").splitlines()
    assert task.source_dictionary.string(pair["source"]) == bpe[0]
    assert task.source_dictionary == task.target_dictionary


def test_finished_steps_are_not_repeated(prepared):
    raw, out, result = prepared
    before = snapshot(out)
    assert prepare(raw, out, dataclasses.replace(OPTIONS, workers=2)) == result
    assert snapshot(out) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bpe_size": 40}, "bpe was made with bpe_size = 50, now it is 40"),
        ({"lowercase": False}, "text was made with lowercase = True, now it is False"),
        ({"joined_dictionary": False}, "bin was made with joined_dictionary = True"),
        (
            {"source_lang": "en", "target_lang": "de"},
            "text was made with source_lang = de, now it is en",
        ),
    ],
)
def test_changed_settings_are_refused(prepared, change, message):
    raw, out, _ = prepared
    before = snapshot(out)
    with pytest.raises(UserError, match=message):
        prepare(raw, out, dataclasses.replace(OPTIONS, **change))
    assert snapshot(out) == before


def test_later_steps_remember_the_settings_of_earlier_ones(prepared, tmp_path):
    raw, out, _ = prepared
    shutil.copytree(out / "bpe", tmp_path / "out" / "bpe")  # somebody removed the text
    with pytest.raises(UserError, match="bpe was made with lowercase = True, now it is False"):
        prepare(raw, tmp_path / "out", dataclasses.replace(OPTIONS, lowercase=False))


def test_changed_input_is_refused(prepared, tmp_path):
    changed = write_corpus(tmp_path / "other", TRAIN[:10])
    with pytest.raises(UserError, match=r"text was made with train\.de \(SHA-256\)"):
        prepare(changed, prepared[1], OPTIONS)


@pytest.mark.slow
def test_workers_do_not_change_the_result(prepared, tmp_path):
    raw, out, _ = prepared
    prepare(raw, tmp_path / "out", dataclasses.replace(OPTIONS, workers=3))
    for path in out.rglob("*"):
        if path.is_file() and path.suffix != ".log":
            assert (tmp_path / "out" / path.relative_to(out)).read_bytes() == path.read_bytes()


def test_sentencepiece_plain_text_separate_dictionaries(raw, tmp_path):
    options = PrepareOptions(
        "en", "de", tokenizer="none", normalize=False, lowercase=False,
        subwords="sentencepiece", bpe_size=60, joined_dictionary=False,
    )  # fmt: skip
    result = prepare(raw, tmp_path / "out", options)
    assert result.dropped == 4  # the empty ones; 250 tokens are allowed
    sizes = result.dictionary_sizes
    assert sizes["de"] != sizes["en"]
    pipeline = TextPipeline.load(result.data_dir)
    bpe = (tmp_path / "out" / "bpe" / "test1.de").read_text(encoding="utf-8").splitlines()
    assert list(map(pipeline.decoder(), bpe)) == ["„Hund.“"]
    assert bpe[0].startswith("▁")


def _nothing_made(out):
    return not any((out / step).exists() for step in STEPS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("valid.en", "one\n", r"valid\.de has 2 lines, but .*valid\.en has 1"),
        ("test.de", "ein\n\n", r"test\.de, line 2: empty line"),
        ("test1.en", b"\xff\n", r"test1\.en, line 1: not UTF-8"),
        ("train.de.gz", gzip.compress(b"a line\n" * 99, mtime=0)[:-9], r"train\.de\.gz: truncated"),
        ("valid.de", "", r"valid\.de"),
    ],
)
def test_bad_text_is_told_before_anything_is_made(raw, tmp_path, name, content, message):
    content = content.encode() if isinstance(content, str) else content
    (tmp_path / "raw" / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        prepare(raw, tmp_path / "out", OPTIONS)
    assert _nothing_made(tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.partial"))


def test_missing_file(raw, tmp_path):
    raw["test"]["de"].unlink()
    with pytest.raises(UserError, match=r"test\.de: cannot be read"):
        prepare(raw, tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()


def test_nothing_left_after_cleaning(raw, tmp_path):
    with pytest.raises(UserError, match=r"no training pair has 1 to 1 tokens"):
        prepare(raw, tmp_path / "out", dataclasses.replace(OPTIONS, max_tokens=1))
    assert _nothing_made(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bpe_size": 0}, "--bpe-size is 0, but must be positive"),
        ({"max_tokens": -1}, "--max-tokens is -1, but must be positive"),
        ({"workers": 0}, "--workers is 0, but must be from 1 to"),
        ({"target_lang": "de"}, "are both de, but must differ"),
        ({"target_lang": "fr"}, "split train has no text in fr"),
        ({"subwords": "wordpiece"}, "wordpiece, but must be subword_nmt or sentencepiece"),
        ({"tokenizer": "mosses"}, "'mosses', but must be moses or none"),
    ],
)
def test_wrong_options(raw, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        prepare(raw, tmp_path / "out", dataclasses.replace(OPTIONS, **change))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("letter", [",", ":"])
def test_a_folder_that_fairseq_cannot_read_is_told_before_anything_is_made(raw, tmp_path, letter):
    with pytest.raises(UserError, match=f"o{letter}ut must not contain '{letter}'"):
        prepare(raw, tmp_path / f"o{letter}ut", OPTIONS)
    assert not (tmp_path / f"o{letter}ut").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("valid", "dev", "split 'dev' must be train"),
        ("valid", None, "must include valid"),
        ("test", "test2", "must include test, test1"),
    ],
)
def test_wrong_splits_are_refused(raw, tmp_path, old, new, message):
    files = raw.pop(old)
    if new is not None:
        raw[new] = files
    with pytest.raises(UserError, match=message):
        prepare(raw, tmp_path / "out", OPTIONS)


def test_output_folder_of_somebody_else(raw, tmp_path):
    (tmp_path / "out" / "text").mkdir(parents=True)
    with pytest.raises(UserError, match="not overwritten"):
        prepare(raw, tmp_path / "out", OPTIONS)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not a folder to write in"):
        prepare(raw, tmp_path / "file", OPTIONS)


def test_killed_run_leaves_nothing_half_made_and_can_be_repeated(tmp_path):
    raw = write_corpus(tmp_path / "raw", TRAIN * 2000)
    out = tmp_path / "out"
    code = (
        "from pathlib import Path\n"
        "from fairseq_cgc.mt.prepare.preparation import PrepareOptions, prepare\n"
        f"raw = {{s: {{l: Path(p) for l, p in f.items()}} for s, f in {_plain(raw)!r}.items()}}\n"
        f"prepare(raw, Path({str(out)!r}), PrepareOptions('de', 'en', bpe_size=50, workers=2))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    while not (out / "text.partial").exists():
        assert process.poll() is None, "ended before it began to write"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert _nothing_made(out)

    raw = write_corpus(tmp_path / "raw")
    assert prepare(raw, out, OPTIONS).pairs["train"] == 12
    assert not list(out.glob("*.partial"))


def _plain(raw):
    return {
        split: {lang: str(path) for lang, path in files.items()} for split, files in raw.items()
    }
