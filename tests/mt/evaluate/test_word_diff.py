from __future__ import annotations

import random

import pytest

from fairseq_cgc.mt.evaluate import word_diff
from fairseq_cgc.mt.evaluate.word_diff import MAX_CELLS, Piece, align, mark, split_words


def shown(pieces: list[Piece]) -> list[tuple[str, str]]:
    return [(piece.text, piece.kind) for piece in pieces]


def test_a_case_worked_out_by_hand() -> None:
    marked = mark("A man plays the old guitar.", "A man plays guitar.", "A boy plays the guitar!")
    assert shown(marked.reference) == [
        ("A ", "both"), ("man", "a"), (" plays ", "both"), ("the", "b"), (" ", "both"),
        ("old", "none"), (" guitar", "both"), (".", "a"),
    ]  # fmt: skip
    assert shown(marked.a) == [
        ("A ", "both"), ("man", "a"), (" plays guitar", "both"), (".", "a"),
    ]  # fmt: skip
    assert shown(marked.b) == [
        ("A ", "both"), ("boy", "wrong"), (" plays ", "both"), ("the", "b"), (" guitar", "both"),
        ("!", "wrong"),
    ]  # fmt: skip


def test_neighbours_of_one_kind_are_one_piece() -> None:
    marked = mark("x", "two wrong words", "x")
    assert shown(marked.a) == [("two wrong words", "wrong")]
    assert shown(marked.reference) == [("x", "b")]


def test_case_counts_unless_told_otherwise() -> None:
    assert shown(mark("The cat", "the cat", "The cat").a) == [("the", "wrong"), (" cat", "both")]
    assert shown(mark("The cat", "the cat", "The cat", lowercase=True).a) == [("the cat", "both")]


@pytest.mark.parametrize(
    "line, pieces",
    [
        ("don't  stop.", ["don", "'", "t", "  ", "stop", "."]),
        ("你好，世界", ["你", "好", "，", "世", "界"]),
        ("हिन्दी में।", ["हिन्दी", " ", "में", "।"]),
        ("مرحبا، عالم", ["مرحبا", "،", " ", "عالم"]),
        ("e\u0301t\u2028x", ["e\u0301t", "\u2028", "x"]),
        ("[a]^b-c\\", ["[", "a", "]", "^", "b", "-", "c", "\\"]),
        ("", []),
    ],
)
def test_words_and_punctuation(line: str, pieces: list[str]) -> None:
    assert split_words(line) == pieces


def test_nothing_is_lost() -> None:
    draw = random.Random(1)
    characters = "ab 你.\u0301'\t<&\x00\u2028\U0001f600-"
    for _ in range(200):
        lines = ["".join(draw.choices(characters, k=draw.randint(0, 30))) for _ in range(3)]
        marked = mark(*lines)
        for line, pieces in zip(lines, (marked.reference, marked.a, marked.b), strict=True):
            assert "".join(piece.text for piece in pieces) == line
            kinds = [piece.kind for piece in pieces]
            assert all(one != other for one, other in zip(kinds, kinds[1:], strict=False))


def test_partners_are_equal_and_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(2)
    for limit in (MAX_CELLS, 0):  # by difflib, then by the words alone
        monkeypatch.setattr(word_diff, "MAX_CELLS", limit)
        for _ in range(100):
            words, others = (draw.choices("abcde", k=draw.randint(0, 12)) for _ in range(2))
            places = align(words, others)
            found = [place for place in places if place is not None]
            assert len(places) == len(words) and len(set(found)) == len(found)
            assert all(
                others[place] == word
                for word, place in zip(words, places, strict=True)
                if place is not None
            )
            if limit:
                assert found == sorted(found)
            else:  # as many as there can be
                common = sum(min(words.count(w), others.count(w)) for w in set(words))
                assert len(found) == common


def test_long_lines_are_not_given_to_difflib(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("cubic time")

    monkeypatch.setattr(word_diff, "SequenceMatcher", refuse)
    marked = mark("a b " * 2500, "a c " * 2500, "b a " * 2500)
    assert shown(marked.a)[:3] == [("a ", "both"), ("c", "wrong"), (" a ", "both")]
    assert shown(marked.b)[:3] == [("b", "b"), (" a ", "both"), ("b", "b")]
