"""Is one system better than another, or was it luck? Paired tests of BLEU and chrF2.

The tests are sacreBLEU's, so that anyone can repeat them with its command line
(``sacrebleu REF -i BASELINE SYSTEM -m bleu chrf --paired-bs``; without regard to case, with
``-lc --chrf-lowercase``). Two things to know about it:

- Its bootstrap follows Moses and is in effect one-sided: without any true difference p is about
  0.4, and a clear difference gets about half the p of a two-sided test. Approximate
  randomisation is two-sided.
- It counts only samples with a *greater* difference than the real one, and so calls a difference
  of nothing, or of one single sentence, significant. Such p-values are corrected here.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from sacrebleu.significance import PairedTest as SacrebleuTest
from sacrebleu.significance import Result

from fairseq_cgc.mt.evaluate.metrics import bleu_metric, check_paired, chrf_metric
from fairseq_cgc.support.errors import UserError

TESTS = {"bootstrap": "bs", "approximate-randomization": "ar"}
"""Name of a test -> sacreBLEU's."""
SAMPLES = 1000
SEED = 12345
"""sacreBLEU's default; fixed, so that the same texts give the same p-value everywhere."""
MAX_SAMPLED_LINES = 100_000_000
"""Samples times lines. sacreBLEU holds 72 bytes of statistics for each in memory at once."""


@dataclass(frozen=True)
class PairedTest:
    """Two systems compared by one metric."""

    metric: str
    """``BLEU`` or ``chrF2``."""
    baseline: float
    """Score of the baseline, 0 to 100."""
    system: float
    p_value: float
    """How often chance alone gives more than this difference; small is significant."""
    baseline_interval: tuple[float, float]
    """Where 95 % of the baseline's scores lie when the sentences are drawn anew."""
    system_interval: tuple[float, float]
    signature: str
    """sacreBLEU's, with the number of samples (``bs`` or ``ar``) and the seed."""

    @property
    def difference(self) -> float:
        """How much the system is better than the baseline."""
        return self.system - self.baseline


def paired_bootstrap(
    system: Sequence[str],
    baseline: Sequence[str],
    references: Sequence[str],
    *,
    lowercase: bool = False,
    target_lang: str = "",
    samples: int = SAMPLES,
    tokenized: bool = False,
    test: str = "bootstrap",
) -> list[PairedTest]:
    """Compare two outputs by BLEU and by chrF2.

    Args:
        system: one line a sentence.
        baseline: what it is compared with.
        references: one line a sentence.
        lowercase: compare without regard to case.
        target_lang: language code; for some languages sacreBLEU has its own tokeniser.
        samples: resampled test sets, or trials of approximate randomisation.
        tokenized: the text is known to be tokenised.
        test: ``bootstrap`` or ``approximate-randomization``.

    Returns:
        The test of BLEU and that of chrF2.

    Raises:
        UserError: if the numbers of lines differ, or ``samples`` or ``test`` is not possible.
    """
    if test not in TESTS:
        raise UserError(f"--test is {test!r}, but must be {' or '.join(TESTS)}")
    if samples < 1:
        raise UserError(f"--samples must be at least 1, but is {samples}")
    check_paired(system, references, hypotheses_name="the system")
    check_paired(baseline, references, hypotheses_name="the baseline")
    if samples * len(references) > MAX_SAMPLED_LINES:
        most = MAX_SAMPLED_LINES // len(references)
        raise UserError(
            f"--samples is {samples}, but for {len(references)} lines must be at most {most}: "
            "the test would not fit in memory"
        )

    metrics = {
        "BLEU": bleu_metric(lowercase=lowercase, target_lang=target_lang, tokenized=tokenized),
        "chrF2": chrf_metric(lowercase=lowercase),
    }
    with _fixed_seed(), _quiet():
        signatures, results = SacrebleuTest(
            [("baseline", list(baseline)), ("system", list(system))],
            metrics,
            [list(references)],
            test_type=TESTS[test],
            n_samples=samples,
            n_ar_confidence=samples if test == "approximate-randomization" else -1,
        )()
    differing = _count_differing(system, baseline, lowercase=lowercase)
    tests = []
    for metric in metrics:
        first, second = (cast(Result, result) for result in results[metric])
        tests.append(
            PairedTest(
                metric=metric,
                baseline=float(first.score),
                system=float(second.score),
                p_value=_corrected(second.p_value, first.score == second.score, differing),
                baseline_interval=_interval(first),
                system_interval=_interval(second),
                signature=str(signatures[metric]),
            )
        )
    return tests


def _corrected(p_value: float | None, equal: bool, differing: int) -> float:
    """sacreBLEU's p-value, but not less than it can be.

    Equal scores are the least difference there is, so that chance always gives as much. And where
    only n sentences differ, not even all of them favouring one system can be rarer than that in n
    tosses of a coin, either way: 2 ** (1 - n).
    """
    if equal:
        return 1.0
    assert p_value is not None  # only a baseline has none
    return max(float(p_value), min(1.0, 2.0 ** (1 - differing)))


def _count_differing(system: Sequence[str], baseline: Sequence[str], *, lowercase: bool) -> int:
    def words(line: str) -> list[str]:
        return (line.lower() if lowercase else line).split()

    return sum(words(a) != words(b) for a, b in zip(system, baseline, strict=True))


def _interval(result: Result) -> tuple[float, float]:
    """sacreBLEU gives the middle and half the width, which may reach beyond what a score can be."""
    assert result.mean is not None and result.ci is not None
    low, high = result.mean - result.ci, result.mean + result.ci
    return max(0.0, float(low)), min(100.0, float(high))


@contextlib.contextmanager
def _fixed_seed() -> Iterator[None]:
    """sacreBLEU takes its seed from the environment, whatever the user has there."""
    name = "SACREBLEU_SEED"
    before = os.environ.get(name)
    os.environ[name] = str(SEED)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without sacreBLEU's log lines, among them two warnings about the same tokenised text."""
    logger = logging.getLogger("sacrebleu")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
