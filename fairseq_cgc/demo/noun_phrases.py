"""Draws random noun phrases.

Of :class:`random.Random`, only ``random()`` is used: the other methods may give other numbers in
another version of Python.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

from fairseq_cgc.demo import inflection, lexicon
from fairseq_cgc.demo.grammar import NounPhrase
from fairseq_cgc.demo.inflection import CASES, THIRD_PLURAL, THIRD_SINGULAR, Adjective, Case, Noun

T = TypeVar("T")

HUMAN = ("person", "colleague", "family")
_OWNED = ("animal", "vehicle", "text", "clothes", "device", "room", "thing")


def _pronoun(row: dict[str, str]) -> NounPhrase:
    german: dict[Case, str] = {case: row.get(case, "") for case in CASES}
    person = int(row["person"])
    return NounPhrase(german, row["english"], row["english_object"], person, is_pronoun=True)


PRONOUNS = tuple(_pronoun(row) for row in lexicon.read_table("pronouns"))
ICH, DU, ER, SIE, WIR, IHR, SIE_PLURAL = PRONOUNS


class NounPhraseSampler:
    """A reproducible source of noun phrases; no word comes twice before :meth:`reset`."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random
        self._used: set[object] = set()

    def reset(self) -> None:
        """Begin a new sentence: forget which words have been used."""
        self._used.clear()

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
        """A word that is not in the sentence yet (any word, if all are)."""
        word = self.pick([word for word in words if word not in self._used] or words)
        self._used.add(word)
        return word

    def noun_phrase(
        self,
        kinds: Sequence[str],
        *,
        definite: bool = True,
        no: bool = False,
        every: bool = False,
        plural: bool | None = None,
    ) -> NounPhrase:
        """A phrase with a noun of one of ``kinds``; its number is drawn unless ``plural`` is given.

        A ``definite`` phrase has ``der``, ``dieser`` or ``mein`` rather than ``ein``, ``zwei`` or
        nothing. ``no`` gives it ``kein``; in English, the clause is negated. ``every`` allows
        ``jeder``.
        """
        noun = self.unused([noun for kind in kinds for noun in lexicon.NOUNS[kind]])
        if plural is None:
            plural = self.chance(0.3)
        word = self._determiner(noun, definite, no, every, plural)
        adjectives = self._adjectives(noun)
        owner = None
        if word == "der" and noun.kind in _OWNED and self.chance(0.1):
            owner = self.noun_phrase(HUMAN, plural=False)

        gender = "plural" if plural else noun.gender
        german: dict[Case, str] = {}
        for case in CASES:
            ending = inflection.adjective_ending(word, case, gender)
            words = [inflection.determiner(word, case, gender)]
            words += [adjective.inflected(ending) for adjective in adjectives]
            words += [noun.german(case, plural), owner.german["genitive"] if owner else ""]
            german[case] = " ".join(word for word in words if word)

        words = [adjective.english for adjective in adjectives]
        words += [noun.english_plural if plural else noun.english]
        opening = f"{owner.english}'s" if owner else _english_determiner(word, words[0], plural)
        english = " ".join([opening, *words]).strip()
        person = THIRD_PLURAL if plural else THIRD_SINGULAR
        is_definite = inflection.DETERMINERS[word]["definite"] == "yes"
        return NounPhrase(
            german, english, english, person, False, is_definite, gender=gender, kind=noun.kind
        )

    def _determiner(self, noun: Noun, definite: bool, no: bool, every: bool, plural: bool) -> str:
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
            fitting = lexicon.ADJECTIVES[noun.kind]
            if noun.singular == "Junge":  # not "der junge Junge"
                fitting = tuple(word for word in fitting if word.german != "jung")
            adjectives.append(self.pick(fitting))
        colors = lexicon.COLORS[noun.kind]
        if colors and self.chance(0.12):
            adjectives.append(self.pick(colors))
        return adjectives

    def human(self, case: Case, subject: NounPhrase, *, definite: bool = True) -> NounPhrase:
        """A human object, often a pronoun; never one that would have to be reflexive."""
        if self.chance(0.35):
            allowed = [word for word in PRONOUNS if not _is_reflexive(subject, word)]
            if case == "accusative":  # "sie" could be "her" or "them"
                allowed = [word for word in allowed if word.shows_accusative]
            return self.pick(allowed)
        # A plural without an article would not show that it is a dative.
        return self.noun_phrase(HUMAN, definite=definite, plural=None if definite else False)

    def subject(
        self, kinds: Sequence[str], *, every: bool = True, definite: bool | None = None
    ) -> NounPhrase:
        """A subject: a pronoun or a name where human beings are allowed, or a noun."""
        if "person" in kinds:
            if self.chance(0.38):
                return self.pick(PRONOUNS)
            if self.chance(0.15):
                name = self.unused(lexicon.NAMES)
                return NounPhrase(dict.fromkeys(CASES, name), name, name)
        if definite is None:
            definite = self.chance(0.85)
        return self.noun_phrase(kinds, definite=definite, every=every)


def _is_reflexive(subject: NounPhrase, pronoun: NounPhrase) -> bool:
    """Whether the object means the subject or a part of it: "ich" and "uns", "sie" and "ihnen"."""
    if subject.person in (THIRD_SINGULAR, THIRD_PLURAL):  # "er sieht ihn" can be somebody else
        return subject.person == pronoun.person == THIRD_PLURAL
    return subject.person % 3 == pronoun.person % 3


def _english_determiner(word: str, following: str, plural: bool) -> str:
    article = inflection.DETERMINERS[word]["english_plural" if plural else "english"]
    return "an" if article == "a" and following[0] in "aeiou" else article
