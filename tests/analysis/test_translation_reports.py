from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fairseq.data import Dictionary, indexed_dataset

from fairseq_cgc.analysis import translation_reports
from fairseq_cgc.analysis.translation_reports import batches, read_corpora, report_sentence
from fairseq_cgc.core import CGLightConv, UserError
from fairseq_cgc.inference.dictionary import Dictionary as InferenceDictionary

TRANSLATOR = SimpleNamespace(languages=("de", "en"), source=InferenceDictionary("abc"))


def write_data(folder: Path, words: str, **splits: list[int]) -> Path:
    """Splits of sentences of these lengths, whose tokens are their own lengths."""
    folder.mkdir()
    dictionary = Dictionary()
    for word in words:
        dictionary.add_symbol(word)
    dictionary.save(str(folder / "dict.de.txt"))
    for split, lengths in splits.items():
        prefix = str(folder / f"{split}.en-de.de")  # binarised for the other direction
        builder = indexed_dataset.make_builder(f"{prefix}.bin", "mmap", vocab_size=100)
        for length in lengths:
            builder.add_item(torch.full((length,), length))
        builder.finalize(f"{prefix}.idx")
    return folder


def test_every_sentence_comes_once_by_length(tmp_path):
    folder = write_data(tmp_path / "bin", "abc", test=[5, 3, 9, 5], valid=[2])
    names, corpora = zip(*read_corpora(TRANSLATOR, [folder], ["test", "valid"]), strict=True)
    assert names == ("test", "valid") and sum(map(len, corpora)) == 5
    (tokens, lengths, number), (_, of_valid, second) = batches(corpora, max_length=8, limit=0)
    assert lengths.tolist() == [3, 5, 5] and number == 0  # 9 is too long
    assert tokens[0].tolist() == [3, 3, 3, 1, 1]  # padded on the right
    assert of_valid.tolist() == [2] and second == 1


def test_a_limit_is_spread_over_the_corpus(tmp_path):
    folder = write_data(tmp_path / "bin", "abc", test=list(range(2, 12)))
    [(_, corpus)] = read_corpora(TRANSLATOR, [folder], ["test"])
    found = list(batches([corpus], 100, 3))
    assert [n for _, lengths, _ in found for n in lengths.tolist()] == [2, 5, 8]
    [(_, lengths, _)] = batches([corpus[:5]], 100, 3)
    assert lengths.tolist() == [2, 3, 5]  # also where the limit is more than half of it


def test_batches_stay_small(tmp_path):
    folder = write_data(tmp_path / "bin", "abc", test=[90] * 100)
    [(_, corpus)] = read_corpora(TRANSLATOR, [folder], ["test"])
    sizes = [tokens.numel() for tokens, _, _ in batches([corpus], 99, 0)]
    assert max(sizes) <= 4000 and sum(sizes) == 9000


def test_folders_are_told_apart_and_must_agree(tmp_path):
    first = write_data(tmp_path / "one", "abc", test=[3])
    second = write_data(tmp_path / "two", "abc", test=[4])
    corpora = read_corpora(TRANSLATOR, [first, second], ["test"])
    assert [name for name, _ in corpora] == ["one/test", "two/test"]
    other = write_data(tmp_path / "other", "abd", test=[4])
    with pytest.raises(UserError, match="other has another dictionary than .*one"):
        read_corpora(TRANSLATOR, [first, other], ["test"])
    with pytest.raises(UserError, match="has no split 'dev' for de to en; it has test"):
        read_corpora(TRANSLATOR, [first], ["dev"])
    with pytest.raises(UserError, match=r"has no dictionary dict\.de\.txt"):
        read_corpora(TRANSLATOR, [tmp_path], ["test"])


def test_prepared_folders_have_the_names_of_their_preparations(tmp_path):
    folders = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        folders.append(write_data(tmp_path / name / "bin", "abc", test=[3]))
    corpora = read_corpora(TRANSLATOR, [*folders, folders[0]], ["test", "test"])
    assert [name for name, _ in corpora] == ["one/test", "two/test"]


def test_a_sentence_of_which_no_token_is_left(monkeypatch, tmp_path):
    class Empty:
        model = CGLightConv(8, 3, 2)

        def __init__(self, *arguments: object) -> None:
            pass

        def translate(self, lines: list[str]) -> list[str]:
            return ["" for _ in lines]

    monkeypatch.setattr(translation_reports, "Translator", Empty)
    with pytest.raises(UserError, match=r"the sentence '\\x01' has no words"):
        report_sentence(tmp_path / "x.pt", "\x01", tmp_path / "x.png", data=None)
