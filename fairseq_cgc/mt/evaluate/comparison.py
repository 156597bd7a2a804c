"""Two systems' translations of one test set, compared as a whole and sentence by sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics import BLEU

from fairseq_cgc.mt.evaluate.metrics import METRICS, bleu_metric, check_paired, chrf_metric
from fairseq_cgc.mt.evaluate.significance import SAMPLES, PairedTest, paired_bootstrap
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.tables import markdown

SIGNIFICANT = 0.05
LENGTH_GROUPS = 5

_DRAWS = {
    "bootstrap": "paired bootstrap samples",
    "approximate-randomization": "trials of approximate randomisation",
}
_TOKENIZED_ENDS = 100  # lines; sacreBLEU warns from as many on


@dataclass(frozen=True)
class Length:
    """How long the translations of a system are, in sacreBLEU's tokens."""

    brevity_penalty: float
    ratio: float
    """Tokens per reference token."""


@dataclass(frozen=True)
class Sentence:
    """One line of the test set."""

    number: int
    """Of its line, from 1."""
    source: str | None
    reference: str
    a: str
    b: str
    score_a: float
    """chrF2 of this sentence alone."""
    score_b: float

    @property
    def difference(self) -> float:
        """By how much ``b`` scores more."""
        return self.score_b - self.score_a


@dataclass(frozen=True)
class LengthGroup:
    """Sentences whose references are about equally long."""

    shortest: int
    """Tokens of the shortest reference."""
    longest: int
    sentences: int
    bleu: tuple[float, float]
    """sacreBLEU of each system on these sentences."""


@dataclass(frozen=True)
class Comparison:
    """What is reported about two systems, A and B; differences are B's score minus A's."""

    names: tuple[str, str]
    tests: list[PairedTest]
    """BLEU first; A is the baseline."""
    lengths: tuple[Length, Length]
    groups: list[LengthGroup]
    sentences: list[Sentence]
    lowercase: bool
    test: str
    samples: int
    notes: list[str]
    """What a reader should know before trusting the scores."""

    @property
    def verdict(self) -> str:
        """Which system has the better BLEU, and whether that is more than luck."""
        bleu = self.tests[0]
        if bleu.difference == 0:
            return f"{self.names[0]} and {self.names[1]} have the same BLEU."
        worse, better = self.names if bleu.difference > 0 else reversed(self.names)
        amount = "less than 0.01" if abs(bleu.difference) < 0.005 else f"{abs(bleu.difference):.2f}"
        drawn = f"p {show_p(bleu.p_value)} in {self.samples:,} {_DRAWS[self.test]}"
        if bleu.p_value < SIGNIFICANT:
            return f"{better} is better than {worse} by {amount} BLEU; {drawn}."
        return (
            f"{better} scores {amount} BLEU more than {worse}, but the difference is not "
            f"significant at {SIGNIFICANT:g}; {drawn}."
        )

    def most_different(self, top: int) -> list[Sentence]:
        """The ``top`` sentences with the greatest differences; fewer if fewer differ at all."""
        differing = [sentence for sentence in self.sentences if sentence.difference != 0]
        return sorted(differing, key=lambda s: (-abs(s.difference), s.number))[:top]

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Cells of the table: metric, A, B, difference, p-value."""
        directions = {metric.paired[0]: metric.direction for metric in METRICS if metric.paired}
        tests = [
            (
                test.metric + directions[test.metric],
                _with_interval(test.baseline, test.baseline_interval),
                _with_interval(test.system, test.system_interval),
                f"{test.difference:+.2f}",
                show_p(test.p_value).removeprefix("= "),
            )
            for test in self.tests
        ]
        a, b = self.lengths
        return [
            *tests,
            ("length ratio", f"{a.ratio:.3f}", f"{b.ratio:.3f}", "", ""),
            ("brevity penalty", f"{a.brevity_penalty:.3f}", f"{b.brevity_penalty:.3f}", "", ""),
        ]

    def table(self) -> str:
        """An aligned Markdown table; signatures, notes and the verdict stand below it."""
        head = ("", *self.names, "difference", "p")
        lines = [*markdown(head, self.rows(), "lllll", aligned=True)]
        # Not in the table: signatures contain the character that separates columns.
        lines += ["", *(f"{test.metric + ':':6} {test.signature}" for test in self.tests)]
        lines += [f"note:  {note}" for note in self.notes]
        return "\n".join([*lines, "", self.verdict])


def compare(
    references: Sequence[str],
    a: Sequence[str],
    b: Sequence[str],
    *,
    sources: Sequence[str] | None = None,
    names: tuple[str, str] = ("A", "B"),
    lowercase: bool = False,
    target_lang: str = "",
    tokenized: bool = False,
    test: str = "bootstrap",
    samples: int = SAMPLES,
) -> Comparison:
    """Score two outputs, test their difference and score every sentence.

    Args:
        references: one line for each sentence.
        a, b: translations by either system; ``a`` is the baseline of the test.
        sources: what was translated, to be shown.
        names: of the systems.
        lowercase, target_lang, tokenized, test, samples: see :func:`paired_bootstrap`.

    Raises:
        UserError: if the names are the same, or as :func:`paired_bootstrap`.
    """
    if names[0] == names[1] or not all(names):
        raise UserError(f"--names must be two different names, but are {','.join(names)!r}")
    for lines, name in zip((a, b), names, strict=True):
        check_paired(lines, references, hypotheses_name=name)
    if sources is not None:
        check_paired(sources, references, hypotheses_name="the source")
    tests = paired_bootstrap(
        b, a, references, lowercase=lowercase, target_lang=target_lang,
        samples=samples, tokenized=tokenized, test=test,
    )  # fmt: skip
    shown: Sequence[str | None] = sources if sources is not None else [None] * len(a)
    chrf = chrf_metric(lowercase=lowercase)
    sentences = [
        Sentence(
            number, source, reference, line_a, line_b,
            chrf.sentence_score(line_a, [reference]).score,
            chrf.sentence_score(line_b, [reference]).score,
        )
        for number, (source, reference, line_a, line_b) in enumerate(
            zip(shown, references, a, b, strict=True), start=1
        )
    ]  # fmt: skip
    bleu = bleu_metric(lowercase=lowercase, target_lang=target_lang, tokenized=True)
    whole_a, whole_b = (bleu.corpus_score(list(lines), [list(references)]) for lines in (a, b))
    return Comparison(
        names=names,
        tests=tests,
        lengths=(Length(whole_a.bp, whole_a.ratio), Length(whole_b.bp, whole_b.ratio)),
        groups=_length_groups(sentences, bleu),
        sentences=sentences,
        lowercase=lowercase,
        test=test,
        samples=samples,
        notes=_notes(references, (a, b), names, lowercase=lowercase, tokenized=tokenized),
    )


def show_p(p_value: float) -> str:
    """``= 0.012`` or ``< 0.001``."""
    return "< 0.001" if p_value < 0.0005 else f"= {p_value:.3f}"


def _with_interval(score: float, interval: tuple[float, float]) -> str:
    return f"{score:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"


def _length_groups(sentences: Sequence[Sentence], bleu: BLEU) -> list[LengthGroup]:
    """Groups of about equally many sentences, so that their scores are equally certain."""
    tokens = {s.number: len(bleu.tokenizer(s.reference).split()) for s in sentences}
    lengths = sorted(tokens.values())
    ends = {lengths[(len(lengths) * i - 1) // LENGTH_GROUPS] for i in range(1, LENGTH_GROUPS + 1)}
    groups, shortest = [], lengths[0]
    for longest in sorted(ends):
        group = [s for s in sentences if shortest <= tokens[s.number] <= longest]
        references = [[s.reference for s in group]]
        score_a = bleu.corpus_score([s.a for s in group], references).score
        score_b = bleu.corpus_score([s.b for s in group], references).score
        groups.append(LengthGroup(shortest, longest, len(group), (score_a, score_b)))
        shortest = longest + 1
    return groups


def _notes(
    references: Sequence[str],
    outputs: tuple[Sequence[str], Sequence[str]],
    names: tuple[str, str],
    *,
    lowercase: bool,
    tokenized: bool,
) -> list[str]:
    """Warnings about two mistakes that are easily made and cost points."""
    notes = []
    for name, lines in zip(names, outputs, strict=True):
        ends = sum(line.endswith(" .") for line in lines)
        if ends >= _TOKENIZED_ENDS and not tokenized:
            notes.append(
                f"{ends} lines of {name} end in a tokenised full stop, but sacreBLEU is for "
                "detokenised text (give --tokenized if that is intended)"
            )
        has_case = any(line != line.lower() for line in references)
        if has_case and not lowercase and all(line == line.lower() for line in lines):
            notes.append(
                f"{name} is all lower case and the references are not "
                "(give --lowercase to ignore case)"
            )
    return notes
