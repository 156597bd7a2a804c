"""Which words two translations share with the reference, to be shown in colour."""

from __future__ import annotations

import re
import string
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby

# Scripts written without spaces: every character is a word.
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# A list, because "not alphanumeric" would tear the vowel signs of Indic scripts off their word.
_PUNCTUATION = re.escape(string.punctuation + "“”„‚‘’«»‹›…–—¡¿،؛؟।、。，！？：；（）「」")
_PIECES = re.compile(
    rf"\s+|[{_IDEOGRAPHS}]|[{_PUNCTUATION}]|[^\s{_IDEOGRAPHS}{_PUNCTUATION}]+", re.UNICODE
)

#: difflib takes up to cubic time. Longer pairs of sentences are aligned by their words alone.
MAX_CELLS = 40_000


@dataclass(frozen=True)
class Piece:
    """Part of a line in one colour."""

    text: str
    kind: str
    """In a reference: ``both``, ``a``, ``b`` or ``none``, for the systems that have the words.
    In a translation: ``both`` (words of the reference that both systems have), ``a`` or ``b``
    (words that only this system has) or ``wrong`` (words that the reference does not have)."""


@dataclass(frozen=True)
class Marked:
    """A reference and two translations of one sentence."""

    reference: list[Piece]
    a: list[Piece]
    b: list[Piece]


def mark(reference: str, a: str, b: str, *, lowercase: bool = False) -> Marked:
    """Compare two translations with the reference, and so with each other.

    The texts of the pieces of a line add up to the line.

    Args:
        reference: one sentence.
        a: its translation by one system.
        b: its translation by the other.
        lowercase: ignore case.
    """
    lines = [split_words(line) for line in (reference, a, b)]
    words = [[piece.lower() if lowercase else piece for piece in line] for line in lines]
    places_a, places_b = (_align_words(words[i], words[0]) for i in (1, 2))
    in_a, in_b = set(places_a), set(places_b)

    def kind(place: int | None) -> str:
        if place is None:
            return "wrong"
        return {(True, True): "both", (True, False): "a", (False, True): "b"}.get(
            (place in in_a, place in in_b), "none"
        )

    return Marked(
        _runs(lines[0], list(map(kind, range(len(lines[0]))))),
        _runs(lines[1], list(map(kind, places_a))),
        _runs(lines[2], list(map(kind, places_b))),
    )


def split_words(line: str) -> list[str]:
    """Words, punctuation marks and stretches of white space, which add up to the line."""
    return _PIECES.findall(line)


def align(words: Sequence[str], others: Sequence[str]) -> list[int | None]:
    """The place of every word's partner in ``others``; no two words share a partner.

    Partners are in the same order, except in long lines, which are matched word by word.
    """
    places: list[int | None] = [None] * len(words)
    if len(words) * len(others) <= MAX_CELLS:
        matcher = SequenceMatcher(None, words, others, autojunk=False)
        for start, other_start, size in matcher.get_matching_blocks():
            places[start : start + size] = range(other_start, other_start + size)
        return places
    free: dict[str, list[int]] = defaultdict(list)
    for place in reversed(range(len(others))):
        free[others[place]].append(place)
    return [free[word].pop() if free[word] else None for word in words]


def _align_words(pieces: list[str], others: list[str]) -> list[int | None]:
    """:func:`align` for pieces that include white space, which has no partner."""
    own = [i for i, piece in enumerate(pieces) if not piece.isspace()]
    theirs = [i for i, piece in enumerate(others) if not piece.isspace()]
    places = align([pieces[i] for i in own], [others[i] for i in theirs])
    result: list[int | None] = [None] * len(pieces)
    for i, place in zip(own, places, strict=True):
        result[i] = None if place is None else theirs[place]
    return result


def _runs(pieces: list[str], kinds: list[str]) -> list[Piece]:
    """Join neighbours of one kind, and white space to what is alike on both sides of it."""
    kinds = ["both" if p.isspace() else kind for p, kind in zip(pieces, kinds, strict=True)]
    for i in range(1, len(pieces) - 1):
        if pieces[i].isspace() and kinds[i - 1] == kinds[i + 1]:
            kinds[i] = kinds[i - 1]
    groups = groupby(zip(pieces, kinds, strict=True), key=lambda piece: piece[1])
    return [Piece("".join(text for text, _ in group), name) for name, group in groups]
