"""Word order in German.

The finite verb is second in main clauses, first in questions and last in subordinate clauses;
participles, infinitives and separated prefixes close the clause. In the usual terms, a main clause
is: prefield, finite verb, middle field, closing verbs, postfield.
"""

from __future__ import annotations

from fairseq_cgc.demo.grammar import Clause, Front
from fairseq_cgc.demo.lexicon import PARADIGMS


def main_clause(clause: Clause, front: Front = "subject") -> str:
    """Verb second: ``Gestern hat der Mann das Fenster aufgemacht``."""
    finite, closing = _finite_and_closing(clause)
    middle = _middle_field(clause, front)
    return " ".join([_prefield(clause, front), finite, *middle, *closing, *_postfield(clause)])


def question(clause: Clause, question_word: str = "") -> str:
    """Verb first, or second behind a question word: ``Warum rufst du den Lehrer an``."""
    finite, closing = _finite_and_closing(clause)
    words = [finite, *_middle_field(clause), *closing, *_postfield(clause)]
    return " ".join([question_word, *words]).lstrip()


def subordinate_clause(clause: Clause, conjunction: str, *, has_subject: bool = True) -> str:
    """Verb last: ``weil der Mann das Fenster aufmacht``; prefix and verb are one word.

    ``has_subject=False`` is for relative clauses, whose ``conjunction`` is the subject.
    """
    finite, closing = _finite_and_closing(clause)
    if closing == [clause.verb.prefix]:
        closing, finite = [], clause.verb.prefix + finite
    middle = _middle_field(clause, has_subject=has_subject)
    return " ".join([conjunction, *middle, *closing, finite, *_postfield(clause)])


def infinitive_clause(clause: Clause, conjunction: str = "") -> str:
    """``das Fenster aufzumachen``, ``um das Fenster aufzumachen``."""
    middle = _middle_field(clause, has_subject=False)
    return " ".join([conjunction, *middle, clause.verb.zu_infinitive]).lstrip()


def imperative(clause: Clause, *, plural: bool, please: bool) -> str:
    """``Mach bitte das Fenster auf``; pronouns stand before ``bitte``."""
    verb = clause.verb
    middle = _middle_field(clause, has_subject=False)
    if please:
        objects = (clause.dative, clause.accusative)
        middle.insert(sum(phrase is not None and phrase.is_pronoun for phrase in objects), "bitte")
    finite = verb.present(4) if plural else verb.imperative
    return " ".join([finite, *middle, verb.prefix]).rstrip()


def _finite_and_closing(clause: Clause) -> tuple[str, list[str]]:
    """The finite verb and the words that close the clause, e.g. ``hat``, ``[aufgemacht]``."""
    verb, person = clause.verb, clause.subject.person
    if clause.modal:
        return clause.modal.present(person), [verb.infinitive]
    if clause.tense == "perfect":
        return PARADIGMS[verb.auxiliary][person], [verb.participle]
    if clause.tense == "future":
        return PARADIGMS["werden"][person], [verb.infinitive]
    if clause.tense == "preterite":
        return PARADIGMS["war"][person], []
    return verb.present(person), [verb.prefix] if verb.prefix else []


def _subject(clause: Clause) -> str:
    phrase = clause.subject
    nominative = phrase.german["nominative"]
    return f"{nominative}, {phrase.relative[0]}," if phrase.relative else nominative


def _prefield(clause: Clause, front: Front) -> str:
    if front == "subject":
        return _subject(clause)
    filler = getattr(clause, front)
    return filler.german[front] if front in ("dative", "accusative") else filler.german


def _middle_field(
    clause: Clause, front: Front | None = None, *, has_subject: bool = True
) -> list[str]:
    """Everything between the finite verb and the closing words, without the ``front``.

    Pronouns come first, even before a noun as subject ("weil mich der Lehrer kennt"). Definite
    objects stand before negation and place, indefinite ones after them.
    """
    objects: dict[str, list[str]] = {"pronoun": [], "dative": [], "definite": [], "indefinite": []}
    if clause.accusative and front != "accusative":
        phrase = clause.accusative
        position = "definite" if phrase.is_definite else "indefinite"
        objects["pronoun" if phrase.is_pronoun else position].append(phrase.german["accusative"])
    if clause.dative and front != "dative":
        phrase = clause.dative
        objects["pronoun" if phrase.is_pronoun else "dative"].append(phrase.german["dative"])
    subject = [_subject(clause)] if has_subject and front != "subject" else []
    pronouns = objects["pronoun"]

    def adverbials(*slots: str) -> list[str]:
        filled = [getattr(clause, slot) for slot in slots if slot != front]
        return [adverbial.german for adverbial in filled if adverbial]

    return [
        *(subject + pronouns if clause.subject.is_pronoun else pronouns + subject),
        *adverbials("time", "setting"),
        *objects["dative"],
        *objects["definite"],
        *adverbials("particle", "manner", "partner", "place"),
        *objects["indefinite"],
        *adverbials("direction", "predicate"),
    ]


def _postfield(clause: Clause) -> list[str]:
    """A relative clause of the object, after everything else."""
    relative = clause.accusative.relative if clause.accusative else None
    return [",", relative[0]] if relative else []
