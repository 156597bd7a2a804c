"""Is one system better than another, or was it luck? Paired tests of BLEU, chrF2 and the like.

The tests are sacreBLEU's, so that anyone can repeat them with its command line
(``sacrebleu REF -i BASELINE SYSTEM -m bleu chrf --paired-bs``; to ignore case, with
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
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from sacrebleu.significance import PairedTest as SacrebleuTest
from sacrebleu.significance import Result

from fairseq_cgc.mt.evaluate.metrics import METRICS, check_paired
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
    """``BLEU``, ``chrF2`` ...: see :attr:`Metric.paired`."""
    baseline: float
    """Score of the baseline."""
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
        """The system's score minus the baseline's."""
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
    """Compare two outputs, one line for each sentence, by every metric that has a paired test.

    Args:
        system, baseline: the outputs.
        references: of both.
        lowercase: ignore case.
        target_lang: language code; for some languages sacreBLEU has its own tokeniser.
        samples: resampled test sets, or trials of approximate randomisation.
        tokenized: the text is known to be tokenised.
        test: ``bootstrap`` or ``approximate-randomization``.

    Returns:
        The tests in the order of the metrics: BLEU, chrF2.

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

    tested = [(*metric.paired, metric) for metric in METRICS if metric.paired]
    metrics = {
        name: make(lowercase=lowercase, target_lang=target_lang, tokenized=tokenized)
        for name, make, _ in tested
    }
    with _quiet_with_fixed_seed():
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
    for name, _, metric in tested:
        first, second = (cast(Result, result) for result in results[name])
        highest = 100.0 if metric.higher_is_better else math.inf
        tests.append(
            PairedTest(
                metric=name,
                baseline=float(first.score),
                system=float(second.score),
                p_value=_corrected(second.p_value, first.score == second.score, differing),
                baseline_interval=_interval(first, highest),
                system_interval=_interval(second, highest),
                signature=str(signatures[name]),
            )
        )
    return tests


def _corrected(p_value: float | None, equal: bool, differing: int) -> float:
    """sacreBLEU's p-value, but not less than it can be.

    Equal scores are the least difference there is, so chance always gives as much. Where only n
    sentences differ, all of them favouring one system is as rare as n tosses of a coin that end
    alike, either way: 2 ** (1 - n). No p-value can be smaller.
    """
    if equal:
        return 1.0
    assert p_value is not None  # only a baseline has none
    return max(float(p_value), min(1.0, 2.0 ** (1 - differing)))


def _count_differing(system: Sequence[str], baseline: Sequence[str], *, lowercase: bool) -> int:
    def words(line: str) -> list[str]:
        return (line.lower() if lowercase else line).split()

    return sum(words(a) != words(b) for a, b in zip(system, baseline, strict=True))


def _interval(result: Result, highest: float) -> tuple[float, float]:
    """sacreBLEU gives the middle and half the width, which may reach beyond what a score can be."""
    assert result.mean is not None and result.ci is not None
    low, high = result.mean - result.ci, result.mean + result.ci
    return max(0.0, float(low)), min(highest, float(high))


@contextlib.contextmanager
def _quiet_with_fixed_seed() -> Iterator[None]:
    """Silence sacreBLEU, which warns twice about tokenised text, and ignore the user's seed.

    sacreBLEU reads its seed from the environment only.
    """
    logger, name = logging.getLogger("sacrebleu"), "SACREBLEU_SEED"
    level, seed = logger.level, os.environ.get(name)
    logger.setLevel(logging.ERROR)
    os.environ[name] = str(SEED)
    try:
        yield
    finally:
        logger.setLevel(level)
        del os.environ[name]
        if seed is not None:
            os.environ[name] = seed
