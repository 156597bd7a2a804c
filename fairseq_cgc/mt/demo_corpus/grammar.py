"""How a clause of the demo corpus is put into German and into English.

Nothing here is random: a :class:`Clause` says what happens to whom, when and how, and the
functions below arrange it. German has its finite verb second in main clauses, first in questions
and last in subordinate clauses; participles, infinitives and separated prefixes close the clause.
English keeps subject, verb, object, place, time, so that most of its order has to be found by
reading the German clause to the end.

German tense alone does not decide the English one: the time adverbial does ("kauft ... oft" is
"often buys", "kauft ... gerade" is "is buying ... right now", "kauft ... morgen" is "will buy").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fairseq_cgc.mt.demo_corpus.adverbials import Adverbial
from fairseq_cgc.mt.demo_corpus.inflection import PARADIGMS, Case, EnglishVerb, Verb
from fairseq_cgc.mt.demo_corpus.verbs import COPULA, Modal

Front = Literal["subject", "time", "setting", "place", "dative", "accusative"]

NICHT = Adverbial("nicht", "", "negation")
NOT_YET = Adverbial("noch nicht", "yet", "completed")
NEVER = Adverbial("nie", "never", "frequency")
NEVER_YET = Adverbial("noch nie", "never", "completed")
ALREADY = Adverbial("schon", "already", "completed")
GLADLY = Adverbial("gern", "", "liking")


@dataclass(frozen=True)
class Phrase:
    """A noun phrase or pronoun: its German cases and its English as subject and as object."""

    german: dict[Case, str]
    english: str
    english_object: str
    person: int = 2  # ich, du, er, wir, ihr, sie
    is_pronoun: bool = False
    is_definite: bool = True
    relative: tuple[str, str] | None = None  # a clause that follows it, German and English
    gender: str = ""
    kind: str = ""

    def subject(self) -> tuple[str, str]:
        """German and English as the subject, with the relative clause."""
        german, english = self.german["nominative"], self.english
        if self.relative:
            return f"{german}, {self.relative[0]},", f"{english} {self.relative[1]}"
        return german, english

    @property
    def shows_accusative(self) -> bool:
        """Whether its form says that it is no subject, so that it may open the sentence."""
        return self.german["accusative"] != self.german["nominative"]


@dataclass(frozen=True)
class Clause:
    """What a clause says.

    ``particle`` is one of the adverbs above; ``condition`` marks the two halves of "if ...,
    then ..."; ``tense`` is the German one (``preterite`` for modal verbs and ``sein`` only).
    """

    subject: Phrase
    verb: Verb
    tense: Literal["present", "perfect", "future", "preterite"] = "present"
    modal: Modal | None = None
    dative: Phrase | None = None
    accusative: Phrase | None = None
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
    def available_fronts(self) -> list[Front]:
        """What may open the sentence besides the subject, without making it ambiguous."""
        fronts: list[Front] = []
        if self.time and self.time.german not in ("immer", "selten", "gerade"):
            fronts.append("time")
        if self.setting:
            fronts.append("setting")
        if self.place:
            fronts.append("place")
        # Capitalised, "ihr" and "ihnen" could be read as other pronouns.
        unclear = ("ihr", "ihnen", "euch")
        if self.dative and self.dative.is_definite and self.dative.german["dative"] not in unclear:
            fronts.append("dative")
        accusative = self.accusative
        # A relative clause stays at the end, where it would follow another noun.
        if accusative and accusative.is_definite and not accusative.relative:
            fronts += ["accusative"] if accusative.shows_accusative else []
        return fronts


# ---------------------------------------------------------------------------------------- German


def _finite_and_closing(clause: Clause) -> tuple[str, list[str]]:
    """The finite verb and what closes the clause, e.g. ``hat``, ``[aufgemacht]``."""
    verb, person = clause.verb, clause.subject.person
    if clause.modal:
        return PARADIGMS[clause.modal.german][person], [verb.infinitive]
    if clause.tense == "perfect":
        return PARADIGMS[verb.auxiliary][person], [verb.participle]
    if clause.tense == "future":
        return PARADIGMS["werden"][person], [verb.infinitive]
    if clause.tense == "preterite":
        return PARADIGMS["war"][person], []
    return verb.present(person), [verb.prefix] if verb.prefix else []


def _middle_field(clause: Clause, front: Front | None = None, *, subject: bool = True) -> list[str]:
    """Everything between the finite verb and the closing words, without the ``front``.

    Pronouns come first, even before a full subject ("weil mich der Lehrer kennt"); definite
    objects stand before negation and place, indefinite ones behind.
    """
    actor = [clause.subject.subject()[0]] if subject and front != "subject" else []
    groups: dict[str, list[str]] = {"pronoun": [], "dative": [], "definite": [], "indefinite": []}
    if clause.accusative and front != "accusative":
        phrase = clause.accusative
        kind = "definite" if phrase.is_definite else "indefinite"
        groups["pronoun" if phrase.is_pronoun else kind].append(phrase.german["accusative"])
    if clause.dative and front != "dative":
        phrase = clause.dative
        groups["pronoun" if phrase.is_pronoun else "dative"].append(phrase.german["dative"])
    objects = groups["pronoun"]
    first = [*actor, *objects] if clause.subject.is_pronoun else [*objects, *actor]

    def words(name: str) -> list[str]:
        adverbial = getattr(clause, name)
        return [adverbial.german] if adverbial and front != name else []

    return [
        *first,
        *words("time"),
        *words("setting"),
        *groups["dative"],
        *groups["definite"],
        *words("particle"),
        *words("manner"),
        *words("partner"),
        *words("place"),
        *groups["indefinite"],
        *words("direction"),
        *words("predicate"),
    ]


def _extraposed(clause: Clause) -> list[str]:
    """A relative clause of the object follows the whole clause."""
    relative = clause.accusative.relative if clause.accusative else None
    return [",", relative[0]] if relative else []


def german_main(clause: Clause, front: Front = "subject") -> str:
    """Verb-second: ``Gestern hat der Mann das Fenster aufgemacht``."""
    opening = {
        "subject": lambda: clause.subject.subject()[0],
        "accusative": lambda: clause.accusative.german["accusative"] if clause.accusative else "",
        "dative": lambda: clause.dative.german["dative"] if clause.dative else "",
    }.get(front, lambda: getattr(clause, front).german)()
    finite, closing = _finite_and_closing(clause)
    middle = _middle_field(clause, front)
    return " ".join([opening, finite, *middle, *closing, *_extraposed(clause)])


def german_question(clause: Clause, question_word: str = "") -> str:
    """Verb-first, or second behind a question word: ``Warum rufst du den Lehrer an``."""
    finite, closing = _finite_and_closing(clause)
    words = [finite, *_middle_field(clause), *closing, *_extraposed(clause)]
    return " ".join([question_word, *words] if question_word else words)


def german_final(clause: Clause, conjunction: str, *, subject: bool = True) -> str:
    """Verb-final: ``weil der Mann das Fenster aufmacht``; prefix and verb are one word.

    ``subject=False`` is for relative clauses, whose ``conjunction`` is the subject.
    """
    finite, closing = _finite_and_closing(clause)
    if closing == [clause.verb.prefix]:
        closing, finite = [], clause.verb.prefix + finite
    middle = _middle_field(clause, subject=subject)
    return " ".join([conjunction, *middle, *closing, finite, *_extraposed(clause)])


def german_infinitive(clause: Clause, opening: str = "") -> str:
    """``das Fenster aufzumachen``, ``um das Fenster aufzumachen``."""
    words = [*_middle_field(clause, subject=False), clause.verb.zu_infinitive]
    return " ".join([opening, *words] if opening else words)


def german_imperative(clause: Clause, *, plural: bool, please: bool) -> str:
    """``Mach bitte das Fenster auf``; pronouns stand before ``bitte``."""
    verb = clause.verb
    finite = verb.present(4) if plural else verb.imperative
    middle = _middle_field(clause, subject=False)
    if please:
        objects = (clause.dative, clause.accusative)
        middle.insert(sum(1 for phrase in objects if phrase and phrase.is_pronoun), "bitte")
    return " ".join([finite, *middle, *([verb.prefix] if verb.prefix else [])])


# --------------------------------------------------------------------------------------- English


def _english_subject(clause: Clause) -> Phrase:
    """The dative of ``gefallen``: "Das Buch gefällt dem Mann" is "The man likes the book"."""
    swapped = clause.verb.infinitive == "gefallen" and clause.dative
    return clause.dative if swapped and clause.dative else clause.subject


def _be(person: int, *, past: bool) -> str:
    return ("was were was were were were" if past else "am are is are are are").split()[person]


def _english_tense(clause: Clause) -> str:
    completed = clause.particle is not None and clause.particle.kind == "completed"
    if clause.tense in ("perfect", "preterite"):
        return "present perfect" if completed else "past"
    if clause.condition == "if":
        return "present"
    time = clause.time.kind if clause.time else ""
    if clause.tense == "future" or time == "future" or clause.condition == "then":
        return "future"
    habitual = time in ("habit", "frequency") or clause.particle in (NEVER, GLADLY)
    return "present" if habitual or clause.verb.simple else "progressive"


def _inflected(verb: EnglishVerb, person: int, *, past: bool) -> str:
    if past:
        return verb.past
    return verb.third if person == 2 else verb.head


def _english_verbs(clause: Clause, *, needs_auxiliary: bool) -> tuple[str, list[str]]:
    """The auxiliary (or ``""``) and the remaining verbs: ``has``, ``[been]``; ``""``, ``[goes]``.

    Negations and questions need an auxiliary: where there is none, ``do`` is put in.
    """
    person, head = _english_subject(clause).person, clause.verb.english.head
    tense = _english_tense(clause)
    past = tense == "past"
    infinitive = [head]
    lexical = clause.verb.english
    if clause.particle is GLADLY:
        lexical, infinitive = EnglishVerb("like"), ["like", "to", head]
    if clause.modal:
        english = clause.modal.english
        if english in ("can", "could", "should"):
            return english, infinitive
        if english == "would like":
            return "would", ["like", "to", head]
        past = clause.tense == "preterite"
        if english == "be allowed":
            return _be(person, past=past), ["allowed", "to", head]
        lexical, infinitive = EnglishVerb(english), [english, "to", head]
    elif tense == "future":
        return "will", infinitive
    elif tense == "present perfect":
        return "has" if person == 2 else "have", [clause.verb.english.participle]
    elif clause.verb is COPULA:
        return _be(person, past=past), []
    elif tense == "progressive":
        return _be(person, past=False), [clause.verb.english.ing]
    if needs_auxiliary:
        present = "does" if person == 2 else "do"
        return "did" if past else present, infinitive
    return "", [_inflected(lexical, person, past=past), *infinitive[1:]]


def _english_objects(clause: Clause) -> list[str]:
    """Objects and the rest of a verb such as "pick @ up" or "look for"."""
    swapped = clause.verb.infinitive == "gefallen"
    second = clause.subject if swapped else clause.accusative
    indirect = clause.dative if not swapped else None
    if second is None:
        indirect, second = None, indirect
    tail = clause.verb.english.tail
    target = second.english_object if second else ""
    if second and second.relative:
        target += " " + second.relative[1]
    if "@" in tail:
        particle = tail.removeprefix("@ ")
        first = second is not None and second.is_pronoun
        words = [target, particle] if first else [particle, target]
    else:
        words = [tail, indirect.english_object if indirect else "", target]
    return [word for word in words if word]


def _english_rest(clause: Clause, front: Front | None = None) -> list[str]:
    """Everything behind the verb, in the order object, manner, place, circumstance, time."""
    words = _english_objects(clause)
    for name in ("predicate", "direction", "manner", "partner", "place", "setting", "time"):
        adverbial = getattr(clause, name)
        if adverbial and front != name and adverbial.kind != "frequency":
            words.append(adverbial.english)
    if clause.particle is NOT_YET:
        words.append("yet")
    return words


def _english_adverbs(clause: Clause, front: Front | None = None) -> list[str]:
    """Adverbs that stand before the main verb: "often buys", "has never bought"."""
    words = []
    if clause.time and clause.time.kind == "frequency" and front != "time":
        words.append(clause.time.english)
    if clause.particle in (NEVER, NEVER_YET, ALREADY):
        words.append(clause.particle.english)
    return words


def english_statement(
    clause: Clause, front: Front = "subject", *, subject: str | None = None
) -> str:
    """A statement; a ``front`` adverbial opens it ("Yesterday, the man ...").

    ``subject`` replaces the clause's own, for "who ..." and "that ...".
    """
    auxiliary, verbs = _english_verbs(clause, needs_auxiliary=clause.is_negated)
    negation = ["not"] if clause.is_negated else []
    actor = _english_subject(clause)
    if subject is None:
        subject = actor.subject()[1] if actor is clause.subject else actor.english
    words = [subject, auxiliary, *negation, *_english_adverbs(clause, front), *verbs]
    words += _english_rest(clause, front)
    if front in ("time", "setting", "place"):
        words.insert(0, getattr(clause, front).english + ",")
    return " ".join(word for word in words if word).replace("can not", "cannot")


def english_question(clause: Clause, question_word: str = "") -> str:
    """A question; ``question_word`` stands for what the clause lacks ("What did you buy")."""
    auxiliary, verbs = _english_verbs(clause, needs_auxiliary=True)
    actor = _english_subject(clause)
    negation = ["not"] if clause.is_negated else []
    words = [question_word, auxiliary, actor.english, *negation, *_english_adverbs(clause), *verbs]
    words += _english_rest(clause)
    return " ".join(word for word in words if word)


def english_infinitive(clause: Clause, opening: str = "to") -> str:
    """``to open the window``; without ``to``, the imperative."""
    words = [opening, clause.verb.english.head, *_english_rest(clause)]
    return " ".join(word for word in words if word)
