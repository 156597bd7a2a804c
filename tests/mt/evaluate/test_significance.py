from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from outputs import chrf_score, noisy, sacrebleu_score, sentences

from fairseq_cgc.mt.evaluate import significance
from fairseq_cgc.mt.evaluate.significance import SEED, TESTS, paired_bootstrap
from fairseq_cgc.support.errors import UserError

REFERENCES = sentences(30)
BASELINE = noisy(REFERENCES, 0.45, seed=1)
SYSTEM = noisy(REFERENCES, 0.4, seed=2)
SCORES = {"BLEU": sacrebleu_score, "chrF2": chrf_score}


def write(folder: Path, **texts: list[str]) -> list[str]:
    for name, lines in texts.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return [str(folder / name) for name in texts]


@pytest.mark.parametrize("metric", [0, 1])
def test_bootstrap_by_its_definition(metric: int) -> None:
    """Test sets drawn with replacement, scored from their text each time."""
    test = paired_bootstrap(SYSTEM, BASELINE, REFERENCES, samples=60)[metric]
    score = SCORES[test.metric]
    drawn = np.random.default_rng(SEED).choice(30, size=(60, 30), replace=True)

    def on(lines: list[str], places: np.ndarray) -> float:
        return score([lines[i] for i in places], [REFERENCES[i] for i in places]).score

    systems = np.array([on(SYSTEM, places) for places in drawn])
    baselines = np.array([on(BASELINE, places) for places in drawn])
    real = abs(on(SYSTEM, np.arange(30)) - on(BASELINE, np.arange(30)))
    gaps = np.abs(systems - baselines)
    expected = (1 + sum(gaps - gaps.mean() > real)) / (1 + 60)

    assert 0.02 < expected < 0.9  # neither bound, where a wrong test would pass
    assert test.p_value == pytest.approx(expected)
    assert test.system - test.baseline == pytest.approx(test.difference)
    assert abs(test.difference) == pytest.approx(real)
    for scores, interval in ((systems, test.system_interval), (baselines, test.baseline_interval)):
        scores = np.sort(scores)  # 60 / 40 = 1 is cut off at either end
        half = (scores[58] - scores[1]) / 2
        assert interval == pytest.approx((scores.mean() - half, scores.mean() + half), abs=1e-3)


def test_approximate_randomisation_by_its_definition() -> None:
    test = paired_bootstrap(
        SYSTEM, BASELINE, REFERENCES, samples=60, test="approximate-randomization"
    )[0]
    swapped = np.random.default_rng(SEED).integers(2, size=(60, 30), dtype=bool)
    gaps = []
    for swap in swapped:
        one = [b if s else a for s, a, b in zip(swap, SYSTEM, BASELINE, strict=True)]
        other = [a if s else b for s, a, b in zip(swap, SYSTEM, BASELINE, strict=True)]
        gaps.append(
            abs(sacrebleu_score(one, REFERENCES).score - sacrebleu_score(other, REFERENCES).score)
        )
    expected = (1 + sum(gap > abs(test.difference) for gap in gaps)) / (1 + 60)
    assert 0.02 < expected < 0.98
    assert test.p_value == pytest.approx(expected)
    assert "ar:60" in test.signature and "bs:60" in test.signature


@pytest.mark.parametrize("option", ["--paired-bs", "--paired-ar"])
def test_sacrebleus_command_line_says_the_same(option: str, tmp_path: Path) -> None:
    reference, *outputs = write(tmp_path, ref=REFERENCES, base=BASELINE, sys=SYSTEM)
    command = [
        sys.executable, "-m", "sacrebleu", reference, "-i", *outputs, "-m", "bleu", "-lc",
        option, f"{option}-n", "100", "-f", "json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, check=True)
    baseline, system = (row["BLEU"] for row in json.loads(done.stdout))
    name = {"--paired-bs": "bootstrap", "--paired-ar": "approximate-randomization"}[option]
    test = paired_bootstrap(SYSTEM, BASELINE, REFERENCES, samples=100, lowercase=True, test=name)[0]
    assert test.metric == "BLEU"
    assert (test.baseline, test.system) == (baseline["score"], system["score"])
    assert test.p_value == system["p_value"]
    if option == "--paired-bs":
        middle, half = system["mean"], system["ci"]
        assert test.system_interval == pytest.approx((middle - half, middle + half))


@pytest.mark.parametrize("test", TESTS)
def test_a_system_against_itself(test: str) -> None:
    for result in paired_bootstrap(SYSTEM, SYSTEM, REFERENCES, samples=50, test=test):
        assert (result.difference, result.p_value) == (0, 1)
    # Different texts that no metric tells apart: by case, and by spaces before full stops.
    shouted = [line.upper() for line in SYSTEM]
    ended, tokenized = ([line + end for line in SYSTEM] for end in (".", " ."))
    for one, other in ((shouted, SYSTEM), (ended, tokenized)):
        for result in paired_bootstrap(
            one, other, REFERENCES, samples=50, test=test, lowercase=True
        ):
            assert (result.difference, result.p_value) == (0, 1)


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("number, least", [(1, 1.0), (2, 0.5), (5, 0.0625)])
def test_few_different_sentences_prove_nothing(test: str, number: int, least: float) -> None:
    """Each of them favours the system, but so do that many coins now and then."""
    better = REFERENCES[:number] + BASELINE[number:]
    worse = ["nothing of the kind"] * number + BASELINE[number:]
    for result in paired_bootstrap(better, worse, REFERENCES, samples=200, test=test):
        assert result.difference > 0
        assert result.p_value == pytest.approx(least)


@pytest.mark.parametrize("test", TESTS)
def test_clear_differences_are_significant_and_luck_is_not(test: str) -> None:
    good, bad = noisy(REFERENCES, 0.1, seed=3), noisy(REFERENCES, 0.7, seed=4)
    clear = paired_bootstrap(good, bad, REFERENCES, samples=200, test=test)
    assert [result.p_value < 0.01 for result in clear] == [True, True]

    # 30 pairs with equally many errors: 0.05 * 30 look significant, twice that by the bootstrap,
    # which is in effect one-sided and whose greatest p is about 0.4.
    pairs = [
        [noisy(REFERENCES, 0.4, seed=100 + 2 * i + side) for side in (0, 1)] for i in range(30)
    ]
    p_values = [
        paired_bootstrap(*pair, REFERENCES, samples=100, test=test)[0].p_value for pair in pairs
    ]
    assert sum(p < 0.05 for p in p_values) <= 6
    assert 0.4 < max(p_values) < 0.5 if test == "bootstrap" else max(p_values) > 0.9


@pytest.mark.parametrize("test", TESTS)
def test_swapping_the_systems_turns_the_difference(test: str) -> None:
    forth = paired_bootstrap(SYSTEM, BASELINE, REFERENCES, samples=100, test=test)
    back = paired_bootstrap(BASELINE, SYSTEM, REFERENCES, samples=100, test=test)
    for one, other in zip(forth, back, strict=True):
        assert one.difference == -other.difference != 0
        assert (one.system, one.baseline) == (other.baseline, other.system)
        assert one.p_value == other.p_value


def test_the_users_environment_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = paired_bootstrap(SYSTEM, BASELINE, REFERENCES, samples=50)
    for seed in ("1", "None"):
        monkeypatch.setenv("SACREBLEU_SEED", seed)
        assert paired_bootstrap(SYSTEM, BASELINE, REFERENCES, samples=50) == expected
        assert significance.os.environ["SACREBLEU_SEED"] == seed
    monkeypatch.delenv("SACREBLEU_SEED")
    paired_bootstrap(SYSTEM, BASELINE, REFERENCES, samples=50)
    assert "SACREBLEU_SEED" not in significance.os.environ
    assert "seed:12345" in expected[0].signature and "bs:50" in expected[0].signature
    assert "tok:13a" in expected[0].signature and "nc:6" in expected[1].signature


def test_case_and_language_are_in_the_signature() -> None:
    cased = paired_bootstrap(SYSTEM, BASELINE, REFERENCES, samples=5)
    lower = paired_bootstrap(
        SYSTEM, BASELINE, REFERENCES, samples=5, lowercase=True, target_lang="zh"
    )
    assert ["case:mixed" in test.signature for test in cased] == [True, True]
    assert ["case:lc" in test.signature for test in lower] == [True, True]
    assert "tok:zh" in lower[0].signature


def test_sacrebleu_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tokenized = ["a b c ."] * 120
    paired_bootstrap(tokenized, ["a b d ."] * 120, tokenized, samples=5)
    assert not [record for record in caplog.records if record.name == "sacrebleu"]


def test_intervals_stay_within_what_a_score_can_be() -> None:
    """sacreBLEU's are symmetric, and reach below 0 where one sentence decides all."""
    references = ["a b c d e f g h"] * 4 + ["i j k l m n o p"]
    output = ["x"] * 4 + ["i j k l m n o p"]
    low, high = paired_bootstrap(output, ["x"] * 5, references, samples=200)[1].system_interval
    assert 0 <= low < high <= 100


@pytest.mark.parametrize(
    "change, message",
    [
        ({"samples": 0}, "--samples must be at least 1, but is 0"),
        ({"samples": 4_000_000}, "--samples is 4000000, but for 30 lines must be at most 3333333"),
        ({"test": "t-test"}, "--test is 't-test', but must be bootstrap or approximate-"),
        ({"system": ["a"]}, "the system has 1 lines, but references has 30"),
        ({"baseline": ["a", "b"]}, "the baseline has 2 lines, but references has 30"),
        ({"system": [], "baseline": [], "references": []}, "the system and references are empty"),
    ],
)
def test_what_is_not_possible(change: dict, message: str) -> None:
    arguments = {"system": SYSTEM, "baseline": BASELINE, "references": REFERENCES, **change}
    with pytest.raises(UserError, match=message):
        paired_bootstrap(**arguments)
