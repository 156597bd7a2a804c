"""Draws the random clauses of the demo corpus: verb, subject, objects, tense, adverbials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from fairseq_cgc.mt.demo_corpus import adverbials, nouns, verbs
from fairseq_cgc.mt.demo_corpus.adverbials import Adverbial
from fairseq_cgc.mt.demo_corpus.grammar import (
    ALREADY,
    GLADLY,
    NEVER,
    NEVER_YET,
    NICHT,
    NOT_YET,
    Clause,
    Front,
    Phrase,
    english_statement,
    german_final,
)
from fairseq_cgc.mt.demo_corpus.inflection import Case, Verb, relative_pronoun
from fairseq_cgc.mt.demo_corpus.phrases import CASES, HUMAN, PRONOUNS, SHE, THEY, PhraseSampler

Period = Literal["any", "past", "nonpast"]

PORTABLE = ("thing", "text", "clothes")
# What one can be today and not tomorrow; other predicates get no time.
_TEMPORARY = ("müde", "glücklich", "krank", "kaputt", "schmutzig")

VERBS: dict[str, Sequence[Verb]] = {
    "transitive": verbs.TRANSITIVE,
    "intransitive": verbs.INTRANSITIVE,
    "motion": verbs.MOTION,
    "dative": verbs.DATIVE,
    "ditransitive": verbs.DITRANSITIVE,
    "experiencer": verbs.EXPERIENCER,
    "copula": (verbs.COPULA,),
    "weather": verbs.WEATHER,
}
FRAMES = {
    "transitive": 0.40,
    "intransitive": 0.16,
    "motion": 0.11,
    "dative": 0.11,
    "ditransitive": 0.12,
    "experiencer": 0.05,
    "copula": 0.05,
}
ACTIONS = ("transitive", "motion", "dative", "ditransitive")
_IT = Phrase(dict.fromkeys(CASES, "es"), "it", "it", is_pronoun=True)


class ClauseSampler(PhraseSampler):
    """A reproducible source of clauses; no noun or verb twice until :meth:`reset`."""

    # -------------------------------------------------------------------------------- clauses

    def clause(
        self,
        frame: str | None = None,
        *,
        period: Period = "any",
        subject: Phrase | None = None,
        verb: Verb | None = None,
        light: bool = False,
        bare: bool = False,
        has_object: bool = True,
        negatable: bool = True,
        condition: Literal["", "if", "then"] = "",
    ) -> Clause:
        """A clause of the given or a random ``frame`` (a key of :data:`VERBS`).

        Args:
            frame: what the verb takes; drawn if not given.
            period: past or not; drawn if ``any``.
            subject: the subject; drawn if not given.
            verb: the verb; drawn from the frame if not given.
            light: with fewer adverbials, for sentences of two clauses.
            bare: present tense, no modal, no time and no negation, for infinitives.
            has_object: False leaves out the object (``was``, ``wem``, ``das Buch, das ...``).
            negatable: whether it may be negated.
            condition: one half of "if ..., then ..."; see :class:`Clause`.
        """
        frame = frame or self.weighted(FRAMES)
        if verb is None:
            usable = [verb for verb in VERBS[frame] if not (bare and verb.simple)]
            verb = self.unused(usable)
        past = period == "past" or (period == "any" and self.chance(0.4))
        negated = negatable and not bare and frame != "weather" and self.chance(0.12)
        if subject is None:
            subject = self._subject(frame, verb, negated=negated)
        clause = Clause(subject, verb, is_negated=negated, condition=condition)
        clause = self._with_objects(clause, frame, has_object=has_object)
        if not bare:
            clause = self._with_tense(clause, frame, past=past and not condition, light=light)
        return self._with_circumstances(clause, frame, light=light)

    def _subject(self, frame: str, verb: Verb, *, negated: bool) -> Phrase:
        if frame == "weather":
            return _IT
        if frame == "experiencer":
            return self.noun_phrase(verb.kinds)
        if frame == "copula":
            kind = self.pick(list(nouns.NOUNS))
            kinds: Sequence[str] = HUMAN if self.chance(0.6) else (kind,)
            return self.subject(kinds, every=not negated, definite=True)
        kinds = verb.kinds if frame == "intransitive" else HUMAN
        return self.subject(kinds, every=not negated)

    def _with_objects(self, clause: Clause, frame: str, *, has_object: bool) -> Clause:
        subject, kinds = clause.subject, clause.verb.kinds
        if frame in ("ditransitive", "experiencer") or (frame == "dative" and has_object):
            dative = self.human("dative", subject, definite=clause.is_negated or self.chance(0.85))
            if frame == "experiencer" and not dative.is_definite:
                dative = PRONOUNS[0]
            clause = replace(clause, dative=dative)
        if frame in ("transitive", "ditransitive") and has_object:
            kind = self.pick(kinds)
            definite = self.chance(0.6)
            if kind in HUMAN and definite:
                accusative = self.human("accusative", subject)
            else:
                no = clause.is_negated and not definite and kind != "family"
                accusative = self.noun_phrase((kind,), definite=definite, no=no)
            clause = replace(clause, accusative=accusative)
        if frame == "copula":
            clause = replace(clause, predicate=self._predicate(subject))
        return clause

    def _predicate(self, subject: Phrase) -> Adverbial:
        adjective = self.pick(nouns.ADJECTIVES[subject.kind or "person"])
        german, english = self.pick((("", ""), ("sehr ", "very "), ("zu ", "too ")))
        return Adverbial(german + adjective.german, english + adjective.english, adjective.german)

    def _with_tense(self, clause: Clause, frame: str, *, past: bool, light: bool) -> Clause:
        """Tense, modal verb, time adverbial and the particles that go with them."""
        verb, negated = clause.verb, clause.is_negated
        conditional = clause.condition != ""
        if frame in ACTIONS + ("intransitive",) and not verb.simple and self.chance(0.2):
            if clause.condition != "if":
                modal = self.pick(verbs.MODALS["preterite" if past else "present"])
                clause = replace(clause, modal=modal, tense="preterite" if past else "present")
        elif past:
            clause = replace(clause, tense="preterite" if frame == "copula" else "perfect")

        steady = verb.simple and not (clause.predicate and clause.predicate.kind in _TEMPORARY)
        lasting = verb.infinitive in verbs.STATES or (steady and frame == "copula")
        if not conditional and not lasting and self.chance(0.25 if light else 0.5):
            clause = replace(clause, time=self._time(clause, past=past, steady=steady))
        if clause.time and clause.time.kind == "future" and not clause.modal and self.chance(0.4):
            clause = replace(clause, tense="future")
        if clause.condition == "then" and not clause.modal and self.chance(0.4):
            clause = replace(clause, tense="future")

        particle = self._particle(clause, steady=steady, conditional=conditional)
        indefinite = clause.accusative is not None and not clause.accusative.is_definite
        if negated and particle is None and not indefinite:
            particle = NICHT
        return replace(clause, particle=particle)

    def _time(self, clause: Clause, *, past: bool, steady: bool) -> Adverbial:
        if past:
            return self.unused(adverbials.PAST)
        groups: dict[Sequence[Adverbial], float] = {adverbials.HABIT: 0.2}
        groups[adverbials.FUTURE] = 0.35
        if not clause.is_negated:
            groups[adverbials.FREQUENCY] = 0.25
        if not steady:  # "gerade" beside a modal verb could also mean "just"
            groups[adverbials.NOW[: 2 if clause.modal or clause.predicate else 3]] = 0.3
        return self.unused(self.weighted(groups))

    def _particle(self, clause: Clause, *, steady: bool, conditional: bool) -> Adverbial | None:
        if steady or clause.time or clause.modal or conditional or clause.predicate:
            return None
        accusative = clause.accusative
        if clause.tense == "perfect" and self.chance(0.2):
            if not clause.is_negated:
                return self.pick((ALREADY, NEVER_YET))
            return NOT_YET if accusative is None or accusative.is_definite else None
        if clause.tense == "present" and not clause.is_negated and self.chance(0.12):
            # "Er isst gern Äpfel", but not "Er isst gern den Apfel"; and only people like things.
            open_ended = not accusative or (not accusative.is_definite and accusative.person == 5)
            human = clause.subject.kind not in ("animal", "vehicle")
            liked = open_ended and human and clause.verb.infinitive not in verbs.DISLIKED
            return GLADLY if liked and self.chance(0.6) else NEVER
        return None

    def _with_circumstances(self, clause: Clause, frame: str, *, light: bool) -> Clause:
        verb, kinds = clause.verb, clause.verb.kinds
        if frame == "motion":
            clause = replace(clause, direction=self.unused(adverbials.DIRECTIONS[kinds[0]]))
        if clause.is_negated or frame in ("experiencer", "copula", "weather") or verb.simple:
            return clause
        share = 0.1 if light else 0.2
        if kinds and kinds[0] in adverbials.MANNERS and self.chance(share):
            clause = replace(clause, manner=self.pick(adverbials.MANNERS[kinds[0]]))
        elif frame in ("intransitive", "motion") and clause.subject.kind != "vehicle":
            if self.chance(share):
                clause = replace(clause, partner=self._partner(clause, ("mit", "ohne")))
        elif verb.infinitive in adverbials.BENEFACTIVE and self.chance(share):
            clause = replace(clause, partner=self._partner(clause, ("für",)))
        has_place = frame in ("transitive", "intransitive") and "room" not in kinds
        if has_place and verb.auxiliary == "haben" and not clause.partner and self.chance(share):
            return replace(clause, place=self.unused(adverbials.PLACES))
        if not clause.condition and self.chance(share / 2):
            return replace(clause, setting=self.unused(self._settings(clause)))
        return clause

    def _settings(self, clause: Clause) -> tuple[Adverbial, ...]:
        # "After work, she is reading" is no English; "read", "can read", "often reads" are.
        running = clause.tense == "present" and not clause.modal
        if running and (clause.time is None or clause.time.kind == "now"):
            return adverbials.CAUSES
        return adverbials.OCCASIONS + adverbials.CAUSES

    def _partner(self, clause: Clause, prepositions: Sequence[str]) -> Adverbial:
        preposition = self.pick(prepositions)
        case: Case = "dative" if preposition == "mit" else "accusative"
        partner = self.human(case, clause.subject)
        english = {"mit": "with", "ohne": "without", "für": "for"}[preposition]
        english = f"{english} {partner.english_object}"
        return Adverbial(f"{preposition} {partner.german[case]}", english, "partner")

    # ----------------------------------------------------------------------- relative clauses

    def with_relative_clause(self, clause: Clause) -> Clause:
        """The clause with a relative clause at its subject or its object, where there is room."""
        thing = clause.accusative
        if thing and thing.kind in PORTABLE and thing.is_definite and not clause.is_negated:
            fitting = [verb for verb in verbs.TRANSITIVE if thing.kind in verb.kinds]
            verb = self.unused(fitting)
            # A pronoun shows who is the subject: "das Buch, das er ...".
            speaker = self.pick(PRONOUNS[:3] + PRONOUNS[4:6])
            inner = self.clause(
                "transitive", subject=speaker, verb=verb, light=True, has_object=False
            )
            pronoun = relative_pronoun("accusative", thing.gender, thing.person == 5)
            relative = (german_final(inner, pronoun), "that " + english_statement(inner))
            # Behind the relative clause nothing may follow that could belong to it.
            clause = replace(clause, place=None, manner=None, partner=None, setting=None)
            thing = replace(thing, relative=relative)
            return replace(clause, accusative=thing, time=None, particle=None)
        # "My uncle who ..." would need commas in English.
        if clause.subject.kind in ("person", "colleague"):
            subject = clause.subject
            inner = self.clause(
                self.pick(("transitive", "motion", "dative")), subject=subject, light=True
            )
            pronoun = relative_pronoun("nominative", subject.gender, subject.person == 5)
            german = german_final(inner, pronoun, subject=False)
            relative = (german, english_statement(inner, subject="who"))
            return replace(clause, subject=replace(subject, relative=relative))
        return clause

    def front(self, clause: Clause) -> tuple[Clause, Front]:
        """What opens the main clause; "Sie" never does as "they", it could be the polite "you"."""
        fronts = clause.available_fronts
        if fronts and self.chance(0.45):
            return clause, self.pick(fronts)
        if clause.subject is THEY:
            clause = replace(clause, subject=SHE)
        return clause, "subject"
