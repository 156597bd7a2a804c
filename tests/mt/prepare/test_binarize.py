import pytest

from fairseq_cgc.mt.prepare.binarize import binarize, check_path, dictionary_size
from fairseq_cgc.support.errors import UserError

TEXT = {
    "train.de": "der hund l@@ äuft\nder hund schläft\n",
    "train.en": "the dog runs\nthe dog sleeps\n",
    "valid.de": "der hund läuft\n",
    "valid.en": "the dog runs\n",
    "test.de": "der hund\n",
    "test.en": "the dog\n",
    "test1.de": "hund\nhund\n",
    "test1.en": "dog\ndog\n",
}


@pytest.fixture
def text(tmp_path):
    folder = tmp_path / "bpe"
    folder.mkdir()
    for name, content in TEXT.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def test_separate_dictionaries_and_numbered_tests(text, tmp_path):
    from fairseq.data import Dictionary, indexed_dataset

    data = tmp_path / "bin"
    splits = ["train", "valid", "test", "test1"]
    log = tmp_path / "log"
    # More processes than lines.
    binarize(text, data, splits, "de", "en", joined_dictionary=False, workers=3, log=log)

    entries = {}
    for lang in ("de", "en"):
        entries[lang] = Dictionary.load(str(data / f"dict.{lang}.txt"))
        assert dictionary_size(data, lang) == len(entries[lang])
    assert "hund" in entries["de"].symbols
    assert "hund" not in entries["en"].symbols
    for split in splits:
        for lang in ("de", "en"):
            stored = indexed_dataset.make_dataset(
                str(data / f"{split}.de-en.{lang}"), impl="mmap", dictionary=entries[lang]
            )
            lines = [entries[lang].string(tokens, escape_unk=False) for tokens in stored]
            # Training shows "läuft" only in pieces.
            assert lines == TEXT[f"{split}.{lang}"].replace(" läuft", " <unk>").splitlines()
    assert "Wrote preprocessed data" in log.read_text()


def test_failure_of_fairseq_is_one_line(text, tmp_path):
    (text / "train.en").unlink()
    with pytest.raises(UserError, match=r"fairseq-preprocess failed: .*\(see .*log\)"):
        binarize(
            text, tmp_path / "bin", ["train", "valid"], "de", "en",
            joined_dictionary=True, log=tmp_path / "log",
        )  # fmt: skip


@pytest.mark.parametrize("letter", [",", ":"])
def test_paths_that_fairseq_takes_for_two(tmp_path, letter):
    text = tmp_path / f"a{letter}b"
    with pytest.raises(UserError, match=f"a{letter}b must not contain '{letter}'"):
        binarize(text, tmp_path, ["train"], "de", "en", joined_dictionary=True, log=tmp_path)


def test_a_path_that_fairseq_takes_for_a_reference_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"\$\{x\} must not contain '\$\{', which fairseq"):
        check_path(tmp_path / "${x}")
