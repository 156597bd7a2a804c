"""Made-up references and translations of them with more or fewer errors."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

from sacrebleu.metrics import TER

from fairseq_cgc.mt.evaluate.metrics import (
    METRICS,
    Metric,
    PlainTextScore,
    bleu_metric,
    chrf_metric,
    corpus_score,
    of_sacrebleu,
)

WORDS = [
    *("the", "a", "dog", "cat", "man", "woman", "runs", "sees", "on", "under", "red", "green"),
    *("house", "tree", "quickly", "often"),
]


def noisy(references: list[str], errors: float, seed: int) -> list[str]:
    """The references with that share of their words replaced."""
    draw = random.Random(seed)
    return [
        " ".join(draw.choice(WORDS) if draw.random() < errors else word for word in line.split())
        for line in references
    ]


def sentences(number: int, seed: int = 0) -> list[str]:
    """Lines of 4 to 14 words."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(4, 14))) for _ in range(number)]


def sacrebleu_score(
    hypotheses: list[str], references: list[str], **options: object
) -> PlainTextScore:
    """BLEU of plain text; options as for ``bleu_metric``."""
    return corpus_score(bleu_metric(**options), hypotheses, references)


def chrf_score(hypotheses: list[str], references: list[str], **options: object) -> PlainTextScore:
    """chrF2 of plain text, likewise."""
    return corpus_score(chrf_metric(**options), hypotheses, references)


@contextlib.contextmanager
def ter_among_the_metrics() -> Iterator[None]:
    """A new metric, of which less is better: one entry of the table."""

    def make(*, lowercase: bool = False, **_: object) -> TER:
        return TER(case_sensitive=not lowercase)

    METRICS.append(
        Metric(
            key="ter",
            label="TER",
            compute=of_sacrebleu(make),
            column=("ter", "TER"),
            paired=("TER", make),
            higher_is_better=False,
        )
    )
    try:
        yield
    finally:
        METRICS.pop()
