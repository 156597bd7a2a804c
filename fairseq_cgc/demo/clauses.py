"""Draws random clauses: verb, subject, objects, tense, adverbials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from fairseq_cgc.demo import english, german, grammar, lexicon
from fairseq_cgc.demo.grammar import Clause, Front, NounPhrase, Pair
from fairseq_cgc.demo.inflection import CASES, THIRD_PLURAL, Case, Verb, determiner
from fairseq_cgc.demo.lexicon import ADVERBIALS, Adverbial
from fairseq_cgc.demo.noun_phrases import HUMAN, ICH, PRONOUNS, SIE, SIE_PLURAL, NounPhraseSampler

ACTIONS = ("transitive", "motion", "dative", "ditransitive")
_PORTABLE = ("thing", "text", "clothes")
_ES = NounPhrase(dict.fromkeys(CASES, "es"), "it", "it", is_pronoun=True)


class ClauseSampler(NounPhraseSampler):
    """A reproducible source of clauses; no noun or verb comes twice before :meth:`reset`."""

    def clause(
        self,
        frame: str | None = None,
        *,
        verb: Verb | None = None,
        subject: NounPhrase | None = None,
        past: bool | None = None,
        light: bool = False,
        bare: bool = False,
        has_object: bool = True,
        negatable: bool = True,
        condition: Literal["", "if", "then"] = "",
    ) -> Clause:
        """A random clause; frame (or verb), subject and past are drawn unless they are given.

        ``light`` clauses have fewer adverbials. ``bare`` ones, for infinitives, are in the present
        and have no modal, time or negation. ``has_object=False`` leaves the object out (``was``,
        ``wem``, ``das Buch, das ...``). For ``condition``, see :class:`Clause`.
        """
        if verb is None:
            frame = frame or self.weighted(lexicon.FRAMES)
            verbs = lexicon.VERBS[frame]
            verb = self.unused([verb for verb in verbs if not (bare and verb.simple)])
        if past is None:
            past = self.chance(0.4)
        negated = negatable and not bare and verb.frame != "weather" and self.chance(0.12)
        subject = subject or self._subject(verb, negated=negated)
        clause = Clause(subject, verb, is_negated=negated, condition=condition)
        self._add_objects(clause, has_object=has_object)
        if not bare:
            past = past and not condition
            self._add_tense(clause, past=past)
            self._add_time(clause, past=past, light=light)
            clause.particle = self._particle(clause)
        self._add_circumstances(clause, light=light)
        return clause

    def _subject(self, verb: Verb, *, negated: bool) -> NounPhrase:
        if verb.frame == "weather":
            return _ES
        if verb.frame == "experiencer":
            return self.noun_phrase(verb.arguments)
        if verb.frame == "copula":
            kind = self.pick(list(lexicon.NOUNS))
            kinds: tuple[str, ...] = HUMAN if self.chance(0.6) else (kind,)
            return self.subject(kinds, every=not negated, definite=True)
        kinds = verb.arguments if verb.frame == "intransitive" else HUMAN
        return self.subject(kinds, every=not negated)

    def _add_objects(self, clause: Clause, *, has_object: bool) -> None:
        frame = clause.verb.frame
        if frame in ("ditransitive", "experiencer") or (frame == "dative" and has_object):
            clause.dative = self._dative(clause)
        if frame in ("transitive", "ditransitive") and has_object:
            clause.accusative = self._accusative(clause)
        if frame == "copula":
            clause.predicate = self._predicate(clause.subject)

    def _dative(self, clause: Clause) -> NounPhrase:
        definite = clause.is_negated or self.chance(0.85)
        dative = self.human("dative", clause.subject, definite=definite)
        if clause.verb.frame == "experiencer" and not dative.is_definite:
            return ICH
        return dative

    def _accusative(self, clause: Clause) -> NounPhrase:
        kind = self.pick(clause.verb.arguments)
        definite = self.chance(0.6)
        if kind in HUMAN and definite:
            return self.human("accusative", clause.subject)
        no = clause.is_negated and not definite and kind != "family"
        return self.noun_phrase((kind,), definite=definite, no=no)

    def _predicate(self, subject: NounPhrase) -> Adverbial:
        adjective = self.pick(lexicon.ADJECTIVES[subject.kind or "person"])
        degree, english_degree = self.pick((("", ""), ("sehr ", "very "), ("zu ", "too ")))
        german_text, english_text = degree + adjective.german, english_degree + adjective.english
        return Adverbial(german_text, english_text, adjective.group)

    def _add_tense(self, clause: Clause, *, past: bool) -> None:
        """Tense and modal verb."""
        verb = clause.verb
        takes_modal = verb.frame in (*ACTIONS, "intransitive") and not verb.simple
        if takes_modal and self.chance(0.2):
            if clause.condition != "if":
                clause.tense = "preterite" if past else "present"
                modals = lexicon.VERBS["modal"]
                clause.modal = self.pick(
                    [verb for verb in modals if clause.tense in verb.arguments]
                )
        elif past:
            clause.tense = "preterite" if verb.frame == "copula" else "perfect"

    def _add_time(self, clause: Clause, *, past: bool, light: bool) -> None:
        """An adverbial of time, and the future tense that may go with it."""
        predicate = clause.predicate
        lasting = "state" in clause.verb.traits or (predicate and predicate.kind == "lasting")
        if not clause.condition and not lasting and self.chance(0.25 if light else 0.5):
            clause.time = self._time(clause, past=past)
        future = clause.condition == "then" or (clause.time and clause.time.kind == "future")
        if future and not clause.modal and self.chance(0.4):
            clause.tense = "future"

    def _time(self, clause: Clause, *, past: bool) -> Adverbial:
        if past:
            return self.unused(ADVERBIALS["past"])
        groups: dict[Sequence[Adverbial], float] = {ADVERBIALS["habit"]: 0.2}
        groups[ADVERBIALS["future"]] = 0.35
        if not clause.is_negated:
            groups[ADVERBIALS["frequency"]] = 0.25
        if clause.predicate or not clause.verb.simple:
            # "gerade" beside a modal verb could also mean "just".
            unclear = clause.modal or clause.predicate
            now = [word for word in ADVERBIALS["now"] if not (unclear and word.german == "gerade")]
            groups[tuple(now)] = 0.3
        return self.unused(self.weighted(groups))

    def _particle(self, clause: Clause) -> Adverbial | None:
        """``nicht`` where no ``kein`` negates; now and then another adverb."""
        negation = grammar.NICHT if clause.is_negated and not clause.has_indefinite_object else None
        if clause.verb.simple or clause.time or clause.modal or clause.condition:
            return negation
        if clause.tense == "perfect" and self.chance(0.2):
            if clause.is_negated:
                return grammar.NOT_YET if negation else None
            return self.pick((grammar.ALREADY, grammar.NEVER_YET))
        if clause.tense == "present" and not clause.is_negated and self.chance(0.12):
            return grammar.GLADLY if _can_be_liked(clause) and self.chance(0.6) else grammar.NEVER
        return negation

    def _add_circumstances(self, clause: Clause, *, light: bool) -> None:
        """Direction, manner, partner, place and setting."""
        verb, frame = clause.verb, clause.verb.frame
        if frame == "motion":
            clause.direction = self.unused(_suited("direction", verb))
        if clause.is_negated or frame in ("experiencer", "copula", "weather") or verb.simple:
            return
        share = 0.1 if light else 0.2
        manners = _suited("manner", verb)
        if manners and self.chance(share):
            clause.manner = self.pick(manners)
        elif frame in ("intransitive", "motion") and clause.subject.kind != "vehicle":
            if self.chance(share):
                clause.partner = self._partner(clause, ("mit", "ohne"))
        elif "benefactive" in verb.traits and self.chance(share):
            clause.partner = self._partner(clause, ("für",))
        has_place = frame in ("transitive", "intransitive") and "room" not in verb.arguments
        if has_place and verb.auxiliary == "haben" and not clause.partner and self.chance(share):
            clause.place = self.unused(ADVERBIALS["place"])
        elif not clause.condition and self.chance(share / 2):
            clause.setting = self.unused(_settings(clause))

    def _partner(self, clause: Clause, prepositions: Sequence[str]) -> Adverbial:
        preposition = self.pick(prepositions)
        case: Case = "dative" if preposition == "mit" else "accusative"
        partner = self.human(case, clause.subject)
        translation = {"mit": "with", "ohne": "without", "für": "for"}[preposition]
        english_text = f"{translation} {partner.english_object}"
        return Adverbial(f"{preposition} {partner.german[case]}", english_text, "partner")

    def add_relative_clause(self, clause: Clause) -> None:
        """A relative clause at the object or the subject, where there is room."""
        thing, subject = clause.accusative, clause.subject
        if thing and thing.kind in _PORTABLE and thing.is_definite and not clause.is_negated:
            clause.accusative = replace(thing, relative=self._relative_to_object(thing))
            # What followed the relative clause could be taken for a part of it.
            clause.manner = clause.partner = clause.place = clause.setting = None
            clause.time = clause.particle = None
        # "My uncle who ..." would need commas in English.
        elif subject.kind in ("person", "colleague"):
            clause.subject = replace(subject, relative=self._relative_to_subject(subject))

    def _relative_to_object(self, thing: NounPhrase) -> Pair:
        verbs = lexicon.VERBS["transitive"]
        verb = self.unused([verb for verb in verbs if thing.kind in verb.arguments])
        # A pronoun shows who is the subject: "das Buch, das er ...".
        speaker = self.pick([pronoun for pronoun in PRONOUNS if pronoun.shows_accusative])
        inner = self.clause(subject=speaker, verb=verb, light=True, has_object=False)
        word = determiner("der", "accusative", thing.gender)
        return german.subordinate_clause(inner, word), "that " + english.statement(inner)

    def _relative_to_subject(self, subject: NounPhrase) -> Pair:
        frame = self.pick(("transitive", "motion", "dative"))
        inner = self.clause(frame, subject=subject, light=True)
        word = determiner("der", "nominative", subject.gender)
        text = german.subordinate_clause(inner, word, has_subject=False)
        return text, english.statement(inner, subject="who")

    def draw_front(self, clause: Clause) -> Front:
        """What opens the main clause: never "Sie" for "they", which could be the polite "you"."""
        fronts = clause.available_fronts
        if fronts and self.chance(0.45):
            return self.pick(fronts)
        if clause.subject is SIE_PLURAL:
            clause.subject = SIE
        return "subject"


def _can_be_liked(clause: Clause) -> bool:
    """Whether ``gern`` fits: "Er isst gern Äpfel", but not "Er isst gern den Apfel"."""
    thing = clause.accusative
    open_ended = not thing or (not thing.is_definite and thing.person == THIRD_PLURAL)
    human = clause.subject.kind not in ("animal", "vehicle")
    return open_ended and human and "disliked" not in clause.verb.traits


def _suited(kind: str, verb: Verb) -> list[Adverbial]:
    """The adverbials of a kind that go with the verb."""
    return [word for word in ADVERBIALS[kind] if {*verb.arguments[:1]} & {*word.goes_with.split()}]


def _settings(clause: Clause) -> tuple[Adverbial, ...]:
    # "After work, she is reading" is no English; "read", "can read", "often reads" are.
    running = clause.tense == "present" and not clause.modal
    if running and (clause.time is None or clause.time.kind == "now"):
        return ADVERBIALS["cause"]
    return ADVERBIALS["occasion"] + ADVERBIALS["cause"]
