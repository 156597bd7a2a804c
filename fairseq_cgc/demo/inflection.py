"""Inflection of words; the words themselves are in :mod:`.lexicon`.

Grammatical persons are numbered from 0: ich, du, er, wir, ihr, sie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fairseq_cgc.demo.words import read_table

Case = Literal["nominative", "accusative", "dative", "genitive"]
CASES: tuple[Case, ...] = ("nominative", "accusative", "dative", "genitive")
THIRD_SINGULAR, THIRD_PLURAL = 2, 5


@dataclass(frozen=True)
class EnglishVerb:
    """The forms of a verb; ``tail`` follows them ("for", "asleep", "@ up")."""

    head: str
    tail: str
    third: str = ""
    past: str = ""
    participle: str = ""
    ing: str = ""

    def finite(self, person: int, *, past: bool) -> str:
        """The form that agrees with a subject: "opens", "opened"."""
        if past:
            return self.past
        return self.third if person == THIRD_SINGULAR else self.head


@dataclass(frozen=True)
class Verb:
    """A German verb and its English counterpart; for its columns see ``words/verbs.tsv``."""

    frame: str
    arguments: tuple[str, ...]
    prefix: str  # separable, or ""
    base: str  # infinitive without the prefix
    third: str
    participle: str
    auxiliary: str
    english: EnglishVerb
    traits: tuple[str, ...] = ()
    irregular: tuple[str, ...] = ()  # the present in all persons, unless it follows the rules

    @property
    def infinitive(self) -> str:
        return self.prefix + self.base

    @property
    def zu_infinitive(self) -> str:
        """``zu machen``, but ``aufzumachen``."""
        return f"{self.prefix}zu{self.base}" if self.prefix else f"zu {self.base}"

    @property
    def simple(self) -> bool:
        """Whether English has no progressive of it ("knows", not "is knowing")."""
        return "simple" in self.traits

    def present(self, person: int) -> str:
        """The present in one person, without the prefix."""
        if self.irregular:
            return self.irregular[person]
        changed = self.third[:-1]  # du and er may change the vowel: "nimmst", "nimmt"
        du = changed + ("t" if changed.endswith(("s", "ß", "z")) else "st")
        ihr = self._stem + ("et" if self._stem.endswith(("t", "d", "fn", "chn")) else "t")
        return (self._stem + "e", du, self.third, self.base, ihr, self.base)[person]

    @property
    def imperative(self) -> str:
        """The du-imperative: ``lies`` keeps the changed vowel of ``liest``, ``fahre`` does not."""
        changed = self.third[:-1]
        keeps = "i" in changed and not self._stem.startswith(changed)
        return changed if keeps else self._stem + "e"

    @property
    def _stem(self) -> str:
        return self.base[:-2] if self.base.endswith("en") else self.base[:-1]


@dataclass(frozen=True)
class Noun:
    """A German noun with its English counterpart; ``gender`` is ``m``, ``f`` or ``n``."""

    kind: str
    singular: str
    gender: str
    plural: str
    genitive: str
    english: str
    english_plural: str

    def german(self, case: Case, plural: bool) -> str:
        """The form for a case, e.g. ``den Kindern``, ``des Mannes``, ``den Studenten``."""
        if plural:
            needs_n = case == "dative" and not self.plural.endswith(("n", "s"))
            return self.plural + "n" if needs_n else self.plural
        if case == "genitive":
            return self.genitive
        # Weak masculines (der Student, des Studenten) take that ending in every other case.
        weak = self.gender == "m" and not self.genitive.endswith("s")
        return self.genitive if weak and case != "nominative" else self.singular


@dataclass(frozen=True)
class Adjective:
    """An adjective by its predicative form; see ``words/adjectives.tsv``."""

    group: str
    german: str
    english: str
    kinds: str

    def inflected(self, ending: str) -> str:
        """``teuer`` and ``dunkel`` lose their e, ``müde`` has it already."""
        if self.german.endswith(("euer", "kel")):
            return self.german[:-2] + self.german[-1] + ending
        return self.german.removesuffix("e") + ending


# Agreement: ``gender`` is m, f, n or plural; ``word`` is a determiner of ``words/determiners.tsv``.

DETERMINERS = {row["word"]: row for row in read_table("determiners")}
_DECLENSIONS = {(row["pattern"], row["case"]): row for row in read_table("declensions")}


def determiner(word: str, case: Case, gender: str) -> str:
    """The form that agrees with a noun: ``der``, ``diesem``, ``meine``, ``zwei``."""
    row = DETERMINERS[word]
    return row["stem"] + _DECLENSIONS[row["declension"], case][gender]


def adjective_ending(word: str, case: Case, gender: str) -> str:
    """The ending of an adjective behind the determiner: ``der alte``, but ``ein alter``."""
    return _DECLENSIONS[DETERMINERS[word]["adjective"], case][gender]
