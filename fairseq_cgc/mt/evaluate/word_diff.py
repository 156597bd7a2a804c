"""Which words of two translations are those of the reference, to be shown in colour."""

from __future__ import annotations

import re
import string
from collections import defaultdict
from collections.abc import Callable, Sequence
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
    """Part of a line, in one colour."""

    text: str
    kind: str
    """In a reference: ``both``, ``a``, ``b`` or ``none``, after the systems that have the words.
    In a translation: ``both`` (reference words that both systems have), ``a`` or ``b``
    (reference words that only this one has) or ``wrong`` (no words of the reference)."""


@dataclass(frozen=True)
class Marked:
    """A reference and two translations of one sentence."""

    reference: list[Piece]
    a: list[Piece]
    b: list[Piece]


def mark(reference: str, a: str, b: str, *, lowercase: bool = False) -> Marked:
    """Compare two translations with the reference and so with each other.

    The texts of the pieces of a line add up to it.

    Args:
        reference: one sentence.
        a: its translation by one system.
        b: by the other.
        lowercase: disregard case.
    """
    lines = [split_words(line) for line in (reference, a, b)]
    words = [[piece.lower() if lowercase else piece for piece in line] for line in lines]
    spaces = [[piece.isspace() for piece in line] for line in lines]
    found_a, found_b = (_align_words(words[i], words[0], spaces[i], spaces[0]) for i in (1, 2))
    in_a, in_b = set(found_a), set(found_b)

    def reference_kind(position: int) -> str:
        return {(True, True): "both", (True, False): "a", (False, True): "b"}.get(
            (position in in_a, position in in_b), "none"
        )

    def kind(place: int | None) -> str:
        return "wrong" if place is None else reference_kind(place)

    return Marked(
        _runs(lines[0], spaces[0], reference_kind),
        _runs(lines[1], spaces[1], lambda position: kind(found_a[position])),
        _runs(lines[2], spaces[2], lambda position: kind(found_b[position])),
    )


def split_words(line: str) -> list[str]:
    """Words, punctuation marks and stretches of white space, which add up to the line."""
    return _PIECES.findall(line)


def align(words: Sequence[str], others: Sequence[str]) -> list[int | None]:
    """For every word the place of its partner in ``others``, which no other word shares.

    Partners are in the same order, unless the lines are long: those are matched word by word.
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


def _align_words(
    pieces: list[str], others: list[str], spaces: list[bool], other_spaces: list[bool]
) -> list[int | None]:
    """:func:`align` for pieces of which some are white space, which has no partner."""
    own = [i for i, space in enumerate(spaces) if not space]
    theirs = [i for i, space in enumerate(other_spaces) if not space]
    result: list[int | None] = [None] * len(pieces)
    for i, place in zip(
        own, align([pieces[i] for i in own], [others[i] for i in theirs]), strict=True
    ):
        result[i] = None if place is None else theirs[place]
    return result


def _runs(pieces: list[str], spaces: list[bool], kind: Callable[[int], str]) -> list[Piece]:
    """Join neighbours of one kind; white space joins what is alike on both sides of it."""
    kinds = ["both" if space else kind(i) for i, space in enumerate(spaces)]
    for i in range(1, len(pieces) - 1):
        if spaces[i] and kinds[i - 1] == kinds[i + 1]:
            kinds[i] = kinds[i - 1]
    groups = groupby(zip(pieces, kinds, strict=True), key=lambda piece: piece[1])
    return [Piece("".join(text for text, _ in group), name) for name, group in groups]
