"""Dictionaries without fairseq: the numbers are fairseq's."""

from __future__ import annotations

from pathlib import Path

import pytest
from fairseq.data import Dictionary as FairseqsDictionary

from fairseq_cgc.inference.dictionary import EOS, PAD, UNK, Dictionary
from fairseq_cgc.support.errors import UserError

OVERWRITE = "#fairseq:overwrite"


def test_numbers_are_fairseqs(tmp_path: Path) -> None:
    path = tmp_path / "dict.de.txt"
    path.write_text(f"a 3\nb 2\n<unk> 2 {OVERWRITE}\na 1 {OVERWRITE}\nc 1\n", encoding="utf-8")
    ours, theirs = Dictionary.load(path), FairseqsDictionary.load(str(path))
    assert ours.types == theirs.symbols
    line = "a b c d <unk> </s>"
    want = theirs.encode_line(line, add_if_not_exist=False).tolist()
    assert ours.encode(line).tolist() == want


def test_a_word_is_never_padding() -> None:
    dictionary = Dictionary(["a"])
    assert dictionary.encode("a <pad>").tolist() == [4, UNK, EOS]
    assert dictionary.decode([4, PAD, EOS]) == "a <pad>"


@pytest.mark.parametrize("word", ["a", "</s>"])
def test_a_repeated_type_is_told(tmp_path: Path, word: str) -> None:
    (tmp_path / "dict").write_text(f"a 3\n{word} 2\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"dict: line 2 repeats the type '{word}'"):
        Dictionary.load(tmp_path / "dict")
