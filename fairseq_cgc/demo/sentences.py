"""Draws random sentences: statements, questions, commands, and sentences of two clauses."""

from __future__ import annotations

from collections.abc import Callable

from fairseq_cgc.demo import english, german
from fairseq_cgc.demo.clauses import ACTIONS, ClauseSampler
from fairseq_cgc.demo.grammar import NICHT, Clause, Front, NounPhrase, Pair
from fairseq_cgc.demo.inflection import CASES
from fairseq_cgc.demo.lexicon import ADVERBIALS, VERBS
from fairseq_cgc.demo.noun_phrases import DU, HUMAN, IHR

MIN_TOKENS, MAX_TOKENS = 4, 25
_PAST = 0.45  # share of the sentences with two clauses that are in the past
_WER = NounPhrase(dict.fromkeys(CASES, "wer"), "who", "who")


def count_tokens(text: str) -> int:
    """Words and punctuation marks."""
    return len(text.split()) + sum(text.count(mark) for mark in ",.?!")


class SentenceSampler(ClauseSampler):
    """An endless, reproducible source of sentence pairs; they may repeat."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._constructions: dict[Callable[[], Pair], float] = {
            self._statement: 0.45,
            self._question: 0.13,
            self._causal: 0.12,
            self._conditional: 0.06,
            self._content_clause: 0.09,
            self._coordination: 0.04,
            self._infinitive: 0.07,
            self._command: 0.04,
        }

    def sample(self) -> Pair:
        """The next pair, German of 4 to 25 tokens and English."""
        while True:
            self.reset()
            pair = self.weighted(self._constructions)()
            if MIN_TOKENS <= count_tokens(pair[0]) <= MAX_TOKENS:
                return pair

    def _statement(self) -> Pair:
        clause = self.clause()
        if self.chance(0.15):
            self.add_relative_clause(clause)
        return _sentence(_main(clause, self.draw_front(clause)), ".")

    def _question(self) -> Pair:
        kinds: dict[Callable[[], Pair], float] = {
            lambda: _asked(self.clause()): 0.45,
            lambda: _main(self.clause(self.pick(ACTIONS), subject=_WER)): 0.12,
            self._object_question: 0.18,
            lambda: _asked(*self._open_clause()): 0.25,
        }
        return _sentence(self.weighted(kinds)(), "?")

    def _object_question(self) -> Pair:
        transitive = VERBS["transitive"]
        word, verbs = self.pick(
            (
                (("was", "what"), [verb for verb in transitive if "person" not in verb.arguments]),
                (("wen", "whom"), [verb for verb in transitive if "person" in verb.arguments]),
                (("wem", "whom"), list(VERBS["dative"])),
            )
        )
        return _asked(self.clause(verb=self.pick(verbs), has_object=False), word)

    def _open_clause(self) -> tuple[Clause, Pair]:
        """A clause and a question that it leaves open: ``warum``, ``wann`` or ``wo``."""
        word = self.pick((("warum", "why"), ("wann", "when"), ("wo", "where")))
        if word[0] == "warum":
            return self.clause(), word
        frame = self.pick(("transitive", "intransitive"))
        if word[0] == "wo":
            clause = self.clause(frame, negatable=False)
            clause.place = None
            return clause, word
        # "When are you buying": without a time the present means the future here.
        if self.chance(0.5):
            clause = self.clause(frame, past=True, negatable=False)
        else:
            clause = self.clause(frame, past=False, negatable=False, condition="then")
        clause.time = clause.setting = clause.particle = None
        return clause, word

    def _command(self) -> Pair:
        plural = self.chance(0.3)
        clause = self.clause(self.pick(ACTIONS), subject=DU, bare=True)
        if self.chance(0.25):
            clause.time = self.pick(ADVERBIALS["future"])
        please = self.chance(0.6)
        opening = "please" if please else ""
        if not please and not clause.has_indefinite_object and self.chance(0.4):
            clause.particle, clause.is_negated = NICHT, True
            clause.time = clause.manner = clause.partner = clause.place = clause.setting = None
            opening = "do not"
        text = german.imperative(clause, plural=plural, please=please)
        return _sentence((text, english.infinitive_clause(clause, opening)), "!")

    def _light_clause(self, past: bool) -> Clause:
        return self.clause("weather" if self.chance(0.04) else None, past=past, light=True)

    def _causal(self) -> Pair:
        past = self.chance(_PAST)
        conjunction = self.pick((("weil", "because"), ("obwohl", "although")))
        main = self.clause(past=past, light=True)
        return self._with_subordinate(main, self._light_clause(past), conjunction)

    def _conditional(self) -> Pair:
        frame = "weather" if self.chance(0.1) else None
        condition = self.clause(frame, past=False, light=True, condition="if")
        main = self.clause(past=False, light=True, condition="then")
        return self._with_subordinate(main, condition, ("wenn", "if"))

    def _with_subordinate(self, main: Clause, inner: Clause, conjunction: Pair) -> Pair:
        """``..., weil ...`` or ``Weil ..., ...``, where the main clause begins with its verb."""
        subordinate = _subordinate(inner, conjunction)
        if self.chance(0.5):
            text = german.question(main, f"{subordinate[0]},")
            return _sentence((text, f"{subordinate[1]}, {english.statement(main)}"), ".")
        return _sentence(_append(_main(main, self.draw_front(main)), subordinate), ".")

    def _coordination(self) -> Pair:
        past = self.chance(_PAST)
        first = self.clause(past=past, light=True)
        opening, english_opening = _main(first, self.draw_front(first))
        second = self.clause(past=past, light=True)
        word, english_word = self.pick((("und", "and"), ("aber", "but"), ("deshalb", "so")))
        if word == "deshalb":  # an adverb, which takes the prefield
            text = german.question(second, word)
        else:
            text = f"{word} {german.main_clause(second)}"
        translation = f"{english_opening}, {english_word} {english.statement(second)}"
        return _sentence((f"{opening}, {text}", translation), ".")

    def _content_clause(self) -> Pair:
        """``Ich glaube, dass ...``, ``Weißt du, warum ...``."""
        verb = self.pick(VERBS["belief"])
        # Only what is known can be asked or unknown: "Weißt du, wo", "Ich weiß nicht, ob".
        knows = verb.infinitive in ("glauben", "wissen")
        asks = self.chance(0.3) and knows
        unknown = asks or self.chance(0.5)
        if "ob" in verb.arguments or (verb.infinitive == "wissen" and unknown):
            if self.chance(0.6):
                inner, conjunction = self._open_clause()
            else:
                inner, conjunction = self._light_clause(self.chance(_PAST)), ("ob", "whether")
        else:
            past = verb.infinitive != "hoffen" and self.chance(_PAST)
            inner, conjunction = self._light_clause(past), ("dass", "that")
        subordinate = _subordinate(inner, conjunction)
        if asks:
            return _sentence(_append(_asked(Clause(self.pick((DU, IHR)), verb)), subordinate), "?")
        doubts = knows and unknown
        subject = self.subject(HUMAN, every=False)
        main = Clause(subject, verb, is_negated=doubts, particle=NICHT if doubts else None)
        return _sentence(_append(_main(main, self.draw_front(main)), subordinate), ".")

    def _infinitive(self) -> Pair:
        """``Er versucht, das Fenster aufzumachen``; ``..., um ... zu ...``."""
        if self.chance(0.4):
            main = self.clause("motion", light=True)
            inner = self.clause("transitive", subject=main.subject, bare=True)
            opening = ("um", "in order to")
        else:
            verb = self.pick(VERBS["control"])
            past = self.pick(verb.arguments) == "perfect"
            main = Clause(self.subject(HUMAN), verb, tense="perfect" if past else "present")
            if past and self.chance(0.4):
                main.time = self.pick(ADVERBIALS["past"])
            inner = self.clause(self.pick(ACTIONS), subject=main.subject, bare=True)
            opening = ("", "to")
        front = self.draw_front(main)
        if main.time:  # in "tried yesterday to open", either verb could have been yesterday
            front = "time" if "time" in main.available_fronts else front
        text = german.infinitive_clause(inner, opening[0])
        infinitive = text, english.infinitive_clause(inner, opening[1])
        return _sentence(_append(_main(main, front), infinitive), ".")


def _main(clause: Clause, front: Front = "subject") -> Pair:
    return german.main_clause(clause, front), english.statement(clause, front)


def _asked(clause: Clause, word: Pair = ("", "")) -> Pair:
    return german.question(clause, word[0]), english.question(clause, word[1])


def _subordinate(clause: Clause, conjunction: Pair) -> Pair:
    text = german.subordinate_clause(clause, conjunction[0])
    return text, f"{conjunction[1]} {english.statement(clause)}"


def _append(main: Pair, subordinate: Pair) -> Pair:
    """The main clause and, after a comma in German, what depends on it."""
    return f"{main[0]}, {subordinate[0]}", f"{main[1]} {subordinate[1]}"


def _sentence(texts: Pair, mark: str) -> Pair:
    """A capital letter, no comma before the closing mark, and that mark."""

    def finished(text: str) -> str:
        text = text.replace(" ,", ",").replace(",,", ",").rstrip(", ") + mark
        return text[0].upper() + text[1:]

    return finished(texts[0]), finished(texts[1])
