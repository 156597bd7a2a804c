"""Draws random sentences of the demo corpus: statements, questions, two clauses, commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fairseq_cgc.mt.demo_corpus import adverbials, verbs
from fairseq_cgc.mt.demo_corpus.clauses import ACTIONS, ClauseSampler, Period
from fairseq_cgc.mt.demo_corpus.grammar import (
    NICHT,
    Clause,
    Phrase,
    english_infinitive,
    english_question,
    english_statement,
    german_final,
    german_imperative,
    german_infinitive,
    german_main,
    german_question,
)
from fairseq_cgc.mt.demo_corpus.phrases import HUMAN, PRONOUNS, YOU

Pair = tuple[str, str]

MIN_TOKENS, MAX_TOKENS = 4, 25
_WHO = Phrase(
    {"nominative": "wer", "accusative": "wen", "dative": "wem", "genitive": "wessen"},
    "who",
    "whom",
)


def sentence(text: str, mark: str) -> str:
    """A capital letter, no comma before the closing mark, and that mark."""
    text = text.replace(" ,", ",").replace(",,", ",").rstrip(", ") + mark
    return text[0].upper() + text[1:]


def count_tokens(text: str) -> int:
    """Words and punctuation marks."""
    return len(text.split()) + sum(text.count(mark) for mark in ",.?!")


class SentenceSampler:
    """An endless, reproducible source of sentence pairs; they may repeat."""

    def __init__(self, seed: int) -> None:
        self._clauses = ClauseSampler(seed)
        self._constructions: dict[Callable[[], Pair], float] = {
            self._statement: 0.45,
            self._question: 0.13,
            self._reason: 0.12,
            self._condition: 0.06,
            self._content: 0.09,
            self._coordination: 0.04,
            self._infinitive: 0.07,
            self._command: 0.04,
        }

    def sample(self) -> Pair:
        """The next pair, German of 4 to 25 tokens and English."""
        while True:
            self._clauses.reset()
            pair = self._clauses.weighted(self._constructions)()
            if MIN_TOKENS <= count_tokens(pair[0]) <= MAX_TOKENS:
                return pair

    # ----------------------------------------------------------------------------- one clause

    def _statement(self) -> Pair:
        clause = self._clauses.clause()
        if self._clauses.chance(0.15):
            clause = self._clauses.with_relative_clause(clause)
        clause, front = self._clauses.front(clause)
        german, english = german_main(clause, front), english_statement(clause, front)
        return sentence(german, "."), sentence(english, ".")

    def _question(self) -> Pair:
        draw = self._clauses
        kind = draw.weighted({"": 0.45, "wer": 0.12, "object": 0.18, "adverb": 0.25})
        if kind == "wer":
            clause = draw.clause(draw.pick(ACTIONS), subject=_WHO)
            german, english = german_main(clause), english_statement(clause)
        elif kind == "object":
            german, english = self._object_question()
        elif kind == "adverb":
            word, question_word, clause = self._open_clause()
            german, english = german_question(clause, word), english_question(clause, question_word)
        else:
            clause = draw.clause()
            german, english = german_question(clause), english_question(clause)
        return sentence(german, "?"), sentence(english, "?")

    def _object_question(self) -> Pair:
        draw = self._clauses
        things = [verb for verb in verbs.TRANSITIVE if "person" not in verb.kinds]
        people = [verb for verb in verbs.TRANSITIVE if "person" in verb.kinds]
        word, frame, fitting, question_word = draw.pick(
            (
                ("was", "transitive", things, "what"),
                ("wen", "transitive", people, "whom"),
                ("wem", "dative", list(verbs.DATIVE), "whom"),
            )
        )
        clause = draw.clause(frame, verb=draw.pick(fitting), has_object=False)
        return german_question(clause, word), english_question(clause, question_word)

    def _open_clause(self) -> tuple[str, str, Clause]:
        """``warum``, ``wann`` or ``wo`` and a clause that does not answer it."""
        draw = self._clauses
        word, question_word = draw.pick((("warum", "why"), ("wann", "when"), ("wo", "where")))
        if word == "warum":
            return word, question_word, draw.clause()
        frame = draw.pick(("transitive", "intransitive"))
        if word == "wo":
            return word, question_word, replace(draw.clause(frame, negatable=False), place=None)
        # "When are you buying": without a time the present means the future here.
        if draw.chance(0.5):
            clause = draw.clause(frame, period="past", negatable=False)
        else:
            clause = draw.clause(frame, period="nonpast", negatable=False, condition="then")
        return word, question_word, replace(clause, time=None, setting=None, particle=None)

    def _command(self) -> Pair:
        draw = self._clauses
        plural = draw.chance(0.3)
        clause = draw.clause(draw.pick(ACTIONS), subject=YOU, bare=True)
        if draw.chance(0.25):
            clause = replace(clause, time=draw.pick(adverbials.FUTURE))
        please, opening = draw.chance(0.6), ""
        indefinite = clause.accusative is not None and not clause.accusative.is_definite
        if not please and not indefinite and draw.chance(0.4):
            clause = replace(clause, particle=NICHT, is_negated=True, time=None)
            clause = replace(clause, manner=None, partner=None, place=None, setting=None)
            opening = "do not"
        german = german_imperative(clause, plural=plural, please=please)
        english = english_infinitive(clause, "please" if please else opening)
        return sentence(german, "!"), sentence(english, "!")

    # ---------------------------------------------------------------------------- two clauses

    def _period(self) -> Period:
        return "past" if self._clauses.chance(0.45) else "nonpast"

    def _light(self, period: Period) -> Clause:
        if self._clauses.chance(0.04):
            return self._clauses.clause("weather", period=period, light=True)
        return self._clauses.clause(period=period, light=True)

    def _reason(self) -> Pair:
        """``..., weil ...`` or ``Weil ..., ...``, where the main clause begins with its verb."""
        draw, period = self._clauses, self._period()
        word, english_word = draw.pick((("weil", "because"), ("obwohl", "although")))
        main, reason = draw.clause(period=period, light=True), self._light(period)
        german, english = german_final(reason, word), english_statement(reason)
        return self._joined(main, german, f"{english_word} {english}")

    def _joined(self, main: Clause, german: str, english: str) -> Pair:
        if self._clauses.chance(0.5):
            first = german_question(main, f"{german},")
            return sentence(first, "."), sentence(f"{english}, {english_statement(main)}", ".")
        main, front = self._clauses.front(main)
        german = f"{german_main(main, front)}, {german}"
        return sentence(german, "."), sentence(f"{english_statement(main, front)} {english}", ".")

    def _condition(self) -> Pair:
        draw = self._clauses
        condition = draw.clause(
            "weather" if draw.chance(0.1) else None, period="nonpast", light=True, condition="if"
        )
        main = draw.clause(period="nonpast", light=True, condition="then")
        english = "if " + english_statement(condition)
        return self._joined(main, german_final(condition, "wenn"), english)

    def _coordination(self) -> Pair:
        draw, period = self._clauses, self._period()
        first, front = draw.front(draw.clause(period=period, light=True))
        second = draw.clause(period=period, light=True)
        word, english_word = draw.pick((("und", "and"), ("aber", "but"), ("deshalb", "so")))
        if word == "deshalb":
            german = german_question(second, word)
        else:
            german = f"{word} {german_main(second)}"
        german = f"{german_main(first, front)}, {german}"
        english = f"{english_statement(first, front)}, {english_word} {english_statement(second)}"
        return sentence(german, "."), sentence(english, ".")

    def _content(self) -> Pair:
        """``Ich glaube, dass ...``, ``Weißt du, warum ...``."""
        draw = self._clauses
        verb = draw.pick(verbs.BELIEF)
        # Only what is known can be asked or unknown: "Weißt du, wo", "Ich weiß nicht, ob".
        asks = draw.chance(0.3) and verb.infinitive in ("glauben", "wissen")
        unknown = asks or draw.chance(0.5)
        if verb.kinds == ("ob",) or (verb.infinitive == "wissen" and unknown):
            word, english_word = "ob", "whether"
            if draw.chance(0.6):
                word, english_word, inner = self._open_clause()
            else:
                inner = self._light(self._period())
        else:
            word, english_word = "dass", "that"
            hopes = verb.infinitive == "hoffen"
            inner = self._light("nonpast" if hopes else self._period())
        doubts = verb.infinitive in ("glauben", "wissen") and unknown and not asks
        subject = draw.pick((YOU, PRONOUNS[5])) if asks else draw.subject(HUMAN, every=False)
        main = Clause(subject, verb, is_negated=doubts, particle=NICHT if doubts else None)
        german, english = german_final(inner, word), f"{english_word} {english_statement(inner)}"
        if asks:
            german, english = (
                f"{german_question(main)}, {german}",
                f"{english_question(main)} {english}",
            )
            return sentence(german, "?"), sentence(english, "?")
        main, _ = draw.front(main)
        german = f"{german_main(main)}, {german}"
        return sentence(german, "."), sentence(f"{english_statement(main)} {english}", ".")

    def _infinitive(self) -> Pair:
        """``Er versucht, das Fenster aufzumachen``; ``..., um ... zu ...``."""
        draw = self._clauses
        if draw.chance(0.4):
            main = draw.clause("motion", light=True)
            inner = draw.clause("transitive", subject=main.subject, bare=True)
            opening, english_opening = "um", "in order to"
        else:
            verb = draw.pick(verbs.CONTROL)
            past = draw.pick(verb.kinds) == "perfect"
            main = Clause(draw.subject(HUMAN), verb, tense="perfect" if past else "present")
            if past and draw.chance(0.4):
                main = replace(main, time=draw.pick(adverbials.PAST))
            inner = draw.clause(draw.pick(ACTIONS), subject=main.subject, bare=True)
            opening, english_opening = "", "to"
        main, front = draw.front(main)
        if main.time:  # "tried yesterday to open" would leave open when the window is opened
            front = "time" if "time" in main.available_fronts else front
        german = f"{german_main(main, front)}, {german_infinitive(inner, opening)}"
        english = f"{english_statement(main, front)} {english_infinitive(inner, english_opening)}"
        return sentence(german, "."), sentence(english, ".")
