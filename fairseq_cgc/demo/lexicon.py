"""The words of the corpus, read from the tables in ``words/``, which explain their columns.

The order of the rows matters: it decides which word a seed draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from fairseq_cgc.demo.inflection import Adjective, EnglishVerb, Noun, Verb
from fairseq_cgc.demo.words import read_table

T = TypeVar("T")


@dataclass(frozen=True)
class Adverbial:
    """A fixed phrase. ``kind`` decides the English tense and where the phrase stands."""

    german: str
    english: str
    kind: str = ""
    goes_with: str = ""


def _grouped(table: str, make_word: Callable[[dict[str, str]], T]) -> dict[str, tuple[T, ...]]:
    """The words of a table by its first column."""
    groups: dict[str, tuple[T, ...]] = {}
    for row in read_table(table):
        group = next(iter(row.values()))
        groups[group] = (*groups.get(group, ()), make_word(row))
    return groups


def english_verb(text: str) -> EnglishVerb:
    """The verb and its tail, as in "look for"; an auxiliary such as "can" has one form only."""
    head, _, tail = text.partition(" ")
    return EnglishVerb(head, tail, *_ENGLISH_FORMS.get(head, ()))


def _verb(row: dict[str, str]) -> Verb:
    prefix, _, base = row["infinitive"].rpartition("|")
    return Verb(
        frame=row["frame"],
        arguments=tuple(row["arguments"].split()),
        prefix=prefix,
        base=base,
        third=row["third"],
        participle=row["participle"],
        auxiliary=row["auxiliary"],
        english=english_verb(row["english"]),
        traits=tuple(row["traits"].split()),
        irregular=PARADIGMS.get(base, ()),
    )


def _adjectives(*groups: str) -> dict[str, tuple[Adjective, ...]]:
    """The adjectives of some groups by the kind of noun that they describe."""
    words = [Adjective(**row) for row in read_table("adjectives") if row["group"] in groups]
    return {kind: tuple(word for word in words if kind in word.kinds.split()) for kind in NOUNS}


#: The present in all persons; the preterite for ``war``, ``konnte``, ``musste``, ...
PARADIGMS = {row.pop("verb"): tuple(row.values()) for row in read_table("german_irregular")}
_ENGLISH_FORMS = {row.pop("verb"): tuple(row.values()) for row in read_table("english_verbs")}

NAMES = ("Anna", "Peter", "Maria", "Paul")
NOUNS = _grouped("nouns", lambda row: Noun(**row))  # by kind
ADJECTIVES = _adjectives("lasting", "temporary")
COLORS = _adjectives("color")
#: How often a clause has a verb of each frame.
FRAMES = {row["frame"]: float(row["weight"]) for row in read_table("frames") if row["weight"]}
VERBS = _grouped("verbs", _verb)  # by frame
ADVERBIALS = _grouped("adverbials", lambda row: Adverbial(**row))  # by kind
