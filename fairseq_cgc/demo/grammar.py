"""What a clause says, whatever the language: who does what to whom, when, where and how.

Nothing here or in :mod:`.german` and :mod:`.english`, which put a clause into words, is random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fairseq_cgc.demo.inflection import THIRD_SINGULAR, Case, Verb
from fairseq_cgc.demo.lexicon import Adverbial

Pair = tuple[str, str]  # German and English
Tense = Literal["present", "perfect", "future", "preterite"]
Front = Literal["subject", "time", "setting", "place", "dative", "accusative"]

NICHT = Adverbial("nicht", "", "negation")
NOT_YET = Adverbial("noch nicht", "yet", "completed")
NEVER = Adverbial("nie", "never", "frequency")
NEVER_YET = Adverbial("noch nie", "never", "completed")
ALREADY = Adverbial("schon", "already", "completed")
GLADLY = Adverbial("gern", "", "liking")


@dataclass(frozen=True)
class NounPhrase:
    """A noun phrase or pronoun: its German cases and its English as subject and as object."""

    german: dict[Case, str]
    english: str
    english_object: str
    person: int = THIRD_SINGULAR
    is_pronoun: bool = False
    is_definite: bool = True
    relative: Pair | None = None  # a relative clause that follows it
    gender: str = ""  # m, f, n or plural
    kind: str = ""

    @property
    def shows_accusative(self) -> bool:
        """Whether its form tells the object from the subject, so that it may open a sentence."""
        return self.german["accusative"] != self.german["nominative"]


@dataclass
class Clause:
    """A verb with its arguments and adverbials; the tense is the German one.

    ``preterite`` is for modal verbs and ``sein`` only; ``particle`` is one of the adverbs above;
    ``condition`` marks the two halves of "if ..., then ...".
    """

    subject: NounPhrase
    verb: Verb
    tense: Tense = "present"
    modal: Verb | None = None
    dative: NounPhrase | None = None
    accusative: NounPhrase | None = None
    predicate: Adverbial | None = None
    particle: Adverbial | None = None
    is_negated: bool = False  # by nicht or kein; English needs "not" in either case
    time: Adverbial | None = None
    setting: Adverbial | None = None
    manner: Adverbial | None = None
    partner: Adverbial | None = None  # with, without, for somebody
    place: Adverbial | None = None
    direction: Adverbial | None = None
    condition: Literal["", "if", "then"] = ""

    @property
    def has_indefinite_object(self) -> bool:
        return self.accusative is not None and not self.accusative.is_definite

    @property
    def available_fronts(self) -> list[Front]:
        """What may open the sentence besides the subject, without making it ambiguous."""
        time, dative, accusative = self.time, self.dative, self.accusative
        # Capitalised, "ihr" and "ihnen" could be read as other pronouns.
        unclear = ("ihr", "ihnen", "euch")
        may_open: dict[Front, object] = {
            "time": time and time.german not in ("immer", "selten", "gerade"),
            "setting": self.setting,
            "place": self.place,
            "dative": dative and dative.is_definite and dative.german["dative"] not in unclear,
            # A relative clause stays at the end, where it would follow another noun.
            "accusative": accusative
            and accusative.is_definite
            and accusative.shows_accusative
            and not accusative.relative,
        }
        return [front for front, allowed in may_open.items() if allowed]
