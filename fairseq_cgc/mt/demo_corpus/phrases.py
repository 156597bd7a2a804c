"""Draws the random noun phrases of the demo corpus.

Only :meth:`random.Random.random` is used: it is the one method of which Python promises the same
numbers in every version.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

from fairseq_cgc.mt.demo_corpus import nouns
from fairseq_cgc.mt.demo_corpus.grammar import Phrase
from fairseq_cgc.mt.demo_corpus.inflection import (
    ENGLISH_DETERMINER,
    Adjective,
    Case,
    Noun,
    adjective_ending,
    determiner,
)

T = TypeVar("T")

HUMAN = ("person", "colleague", "family")
CASES: tuple[Case, ...] = ("nominative", "accusative", "dative", "genitive")
_OWNED = ("animal", "vehicle", "text", "clothes", "device", "room", "thing")


def _pronoun(number: int) -> Phrase:
    nominative, accusative, dative, english, english_object = nouns.PRONOUNS[number]
    german = dict(zip(CASES, (nominative, accusative or nominative, dative, ""), strict=True))
    person = nouns.PRONOUN_PERSON[number]
    return Phrase(german, english, english_object, person, is_pronoun=True)


PRONOUNS = tuple(_pronoun(number) for number in range(len(nouns.PRONOUNS)))
YOU, SHE, THEY = PRONOUNS[1], PRONOUNS[3], PRONOUNS[6]
_SELF = ((0, 4), (1, 5), (), (), (0, 4), (1, 5), (6,))  # objects that would be reflexive


class PhraseSampler:
    """A reproducible source of noun phrases; no noun twice until :meth:`reset`."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random
        self._used: set[object] = set()

    def reset(self) -> None:
        """Forget which nouns and verbs have been used: the next sentence begins."""
        self._used.clear()

    # ------------------------------------------------------------------------------- choosing

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self._random() * len(items))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        threshold = self._random() * sum(weights.values())
        for item, weight in weights.items():
            threshold -= weight
            if threshold < 0:
                return item
        return item

    def unused(self, words: Sequence[T]) -> T:
        """A word that the sentence does not have yet (any, if it has them all)."""
        word = self.pick([word for word in words if word not in self._used] or words)
        self._used.add(word)
        return word

    # -------------------------------------------------------------------------------- phrases

    def noun_phrase(
        self,
        kinds: Sequence[str],
        *,
        definite: bool = True,
        no: bool = False,
        every: bool = False,
        plural: bool | None = None,
        simple: bool = False,
    ) -> Phrase:
        """A phrase around a noun of one of ``kinds``.

        Args:
            kinds: keys of :data:`~fairseq_cgc.mt.demo_corpus.nouns.NOUNS`.
            definite: with ``der``, ``dieser`` or ``mein`` rather than ``ein``, ``zwei`` or nothing.
            no: with ``kein``, whose negation is put into the English clause.
            every: whether ``jeder`` is allowed.
            plural: the number; drawn if not given.
            simple: without a genitive.
        """
        noun = self.unused([noun for kind in kinds for noun in nouns.NOUNS[kind]])
        if plural is None:
            plural = self.chance(0.3)
        word = self._determiner(noun, definite=definite, no=no, every=every, plural=plural)
        adjectives = self._adjectives(noun)
        owner = None
        if word == "der" and noun.kind in _OWNED and not simple and self.chance(0.1):
            owner = self.noun_phrase(HUMAN, plural=False, simple=True)

        german: dict[Case, str] = {}
        for case in CASES:
            ending = adjective_ending(word, case, noun.gender, plural)
            words = [determiner(word, case, noun.gender, plural)]
            words += [adjective.inflected(ending) for adjective in adjectives]
            words += [noun.german(case, plural), owner.german["genitive"] if owner else ""]
            german[case] = " ".join(word for word in words if word)

        name = noun.english_plural if plural else noun.english
        words = [adjective.english for adjective in adjectives] + [name]
        opening = f"{owner.english}'s" if owner else _english_determiner(word, words[0], plural)
        english = " ".join([opening, *words]).strip()
        return Phrase(
            german,
            english,
            english,
            person=5 if plural else 2,
            is_definite=word in ("der", "dies", "jed", "mein", "dein", "unser"),
            gender=noun.gender,
            kind=noun.kind,
        )

    def _determiner(
        self, noun: Noun, *, definite: bool, no: bool, every: bool, plural: bool
    ) -> str:
        if no:
            return "kein"
        if noun.kind == "family":
            return self.weighted({"mein": 0.5, "dein": 0.25, "unser": 0.25})
        if not definite:
            if not plural:
                return "ein"
            return self.weighted({"": 0.6, "zwei": 0.2, "drei": 0.12, "vier": 0.08})
        if every and not plural and self.chance(0.08):
            return "jed"
        # "mein Mann" and "meine Frau" would be a husband and a wife.
        possessive = 0.0 if noun.kind == "person" else 0.08
        weights = {"der": 0.65, "dies": 0.12, "mein": possessive, "dein": possessive}
        return self.weighted({**weights, "unser": possessive})

    def _adjectives(self, noun: Noun) -> list[Adjective]:
        adjectives = []
        if self.chance(0.3):
            fitting = nouns.ADJECTIVES[noun.kind]
            if noun.singular == "Junge":  # not "der junge Junge"
                fitting = tuple(word for word in fitting if word.german != "jung")
            adjectives.append(self.pick(fitting))
        if noun.kind in nouns.COLORED_KINDS and self.chance(0.12):
            adjectives.append(self.pick(nouns.COLORS))
        return adjectives

    def human(self, case: Case, subject: Phrase, *, definite: bool = True) -> Phrase:
        """A human object, often a pronoun; never one that would have to be reflexive."""
        if self.chance(0.35):
            reflexive = _SELF[PRONOUNS.index(subject)] if subject in PRONOUNS else ()
            if subject.person == 5:
                reflexive = (6,)
            allowed = [
                phrase
                for number, phrase in enumerate(PRONOUNS)
                if number not in reflexive
                and (case == "dative" or nouns.PRONOUNS[number][1] is not None)
            ]
            return self.pick(allowed)
        # A plural without an article would not show that it is a dative.
        return self.noun_phrase(HUMAN, definite=definite, plural=None if definite else False)

    def subject(
        self, kinds: Sequence[str], *, every: bool = True, definite: bool | None = None
    ) -> Phrase:
        """A subject: a pronoun or a name where human beings are allowed, or a noun."""
        if "person" in kinds:
            if self.chance(0.38):
                return self.pick(PRONOUNS)
            if self.chance(0.15):
                name = self.unused(nouns.NAMES)
                return Phrase(dict.fromkeys(CASES, name), name, name)
        if definite is None:
            definite = self.chance(0.85)
        return self.noun_phrase(kinds, definite=definite, every=every)


def _english_determiner(word: str, following: str, plural: bool) -> str:
    if word in ("ein", "kein"):
        if plural:
            return "any"
        return "an" if following[0] in "aeiou" else "a"
    if word == "dies":
        return "these" if plural else "this"
    return ENGLISH_DETERMINER[word]
