"""Word order and tense in English.

The English order is subject, verb, object, place, time, so that a translator has to read the
German clause to its end. The German tense alone does not decide the English one: the adverbial of
time does ("kauft ... oft" is "often buys", "kauft ... gerade" is "is buying ...
right now", "kauft ... morgen" is "will buy").
"""

from __future__ import annotations

from fairseq_cgc.demo.grammar import GLADLY, NOT_YET, Clause, Front, NounPhrase
from fairseq_cgc.demo.inflection import THIRD_SINGULAR
from fairseq_cgc.demo.lexicon import english_verb

_DO, _LIKE_TO = english_verb("do"), english_verb("like to")
_BE_PRESENT = ("am", "are", "is", "are", "are", "are")
_BE_PAST = ("was", "were", "was", "were", "were", "were")
_MODAL_AUXILIARIES = ("can", "could", "should", "would")


def statement(clause: Clause, front: Front = "subject", *, subject: str | None = None) -> str:
    """``Yesterday, the man ...``; ``subject`` replaces the clause's own, for "who ..."."""
    opening = f"{getattr(clause, front).english}," if front in ("time", "setting", "place") else ""
    auxiliary, verbs = _verb_group(clause, needs_auxiliary=clause.is_negated)
    subject = subject or _with_relative(_arguments(clause)[0])
    words = [opening, subject, auxiliary, *_adverbs(clause, front), *verbs, *_rest(clause, front)]
    return _joined(words).replace("can not", "cannot")


def question(clause: Clause, question_word: str = "") -> str:
    """A question; ``question_word`` stands for what the clause lacks ("What did you buy")."""
    auxiliary, verbs = _verb_group(clause, needs_auxiliary=True)
    subject = _arguments(clause)[0].english
    return _joined([question_word, auxiliary, subject, *_adverbs(clause), *verbs, *_rest(clause)])


def infinitive_clause(clause: Clause, opening: str = "to") -> str:
    """``to open the window``; without ``to``, the imperative."""
    return _joined([opening, clause.verb.english.head, *_rest(clause)])


def _joined(words: list[str]) -> str:
    return " ".join(word for word in words if word)


def _tense(clause: Clause) -> str:
    time = clause.time.kind if clause.time else ""
    particle = clause.particle.kind if clause.particle else ""
    if clause.tense in ("perfect", "preterite"):
        return "present perfect" if particle == "completed" else "past"
    if clause.condition == "if":
        return "present"
    if clause.tense == "future" or time == "future" or clause.condition == "then":
        return "future"
    habitual = {time, particle} & {"habit", "frequency", "liking"}
    return "present" if habitual or clause.verb.simple else "progressive"


def _verb_group(clause: Clause, *, needs_auxiliary: bool) -> tuple[str, list[str]]:
    """The auxiliary (or ``""``) and the other verbs: ``has``, ``[been]``; ``""``, ``[goes]``.

    Negations and questions need an auxiliary: where there is none, ``do`` is put in.
    """
    person, tense = _arguments(clause)[0].person, _tense(clause)
    main, complement = clause.verb.english, []
    if clause.modal or clause.particle is GLADLY:
        main = clause.modal.english if clause.modal else _LIKE_TO
        complement = [main.tail, clause.verb.english.head]
    if main.head in _MODAL_AUXILIARIES:
        return main.head, complement
    if not clause.modal:
        if tense == "future":
            return "will", [main.head, *complement]
        if tense == "present perfect":
            return "has" if person == THIRD_SINGULAR else "have", [main.participle]
        if tense == "progressive":
            return _BE_PRESENT[person], [main.ing]
    past = tense == "past"
    if main.head == "be":
        return (_BE_PAST if past else _BE_PRESENT)[person], complement
    if needs_auxiliary:
        return _DO.finite(person, past=past), [main.head, *complement]
    return "", [main.finite(person, past=past), *complement]


def _arguments(clause: Clause) -> tuple[NounPhrase, NounPhrase | None, NounPhrase | None]:
    """Subject, direct and indirect object in English.

    The dative of ``gefallen`` is a subject: "Das Buch gefällt dem Mann", "The man likes the book".
    """
    if clause.dative and "inverse" in clause.verb.traits:
        return clause.dative, clause.subject, None
    if clause.accusative is None:
        return clause.subject, clause.dative, None
    return clause.subject, clause.accusative, clause.dative


def _with_relative(phrase: NounPhrase, *, is_object: bool = False) -> str:
    english = phrase.english_object if is_object else phrase.english
    return f"{english} {phrase.relative[1]}" if phrase.relative else english


def _objects(clause: Clause) -> list[str]:
    """Objects and the rest of a verb such as "pick @ up" or "look for"."""
    _, direct, indirect = _arguments(clause)
    tail = clause.verb.english.tail
    target = _with_relative(direct, is_object=True) if direct else ""
    if tail.startswith("@"):
        particle = tail.removeprefix("@ ")
        return [target, particle] if direct and direct.is_pronoun else [particle, target]
    return [tail, indirect.english_object if indirect else "", target]


def _rest(clause: Clause, front: Front | None = None) -> list[str]:
    """Everything after the verb: object, manner, place, circumstance, time."""
    words = _objects(clause)
    for slot in ("predicate", "direction", "manner", "partner", "place", "setting", "time"):
        adverbial = getattr(clause, slot)
        if adverbial and slot != front and adverbial.kind != "frequency":
            words.append(adverbial.english)
    return [*words, "yet"] if clause.particle is NOT_YET else words


def _adverbs(clause: Clause, front: Front | None = None) -> list[str]:
    """What stands before the main verb: "not", "often", "never"."""
    words = ["not"] if clause.is_negated else []
    if clause.time and clause.time.kind == "frequency" and front != "time":
        words.append(clause.time.english)
    if clause.particle and clause.particle is not NOT_YET:
        words.append(clause.particle.english)
    return words
