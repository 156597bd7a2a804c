from __future__ import annotations

import dataclasses

import pytest
from outputs import chrf_score, noisy, sacrebleu_score, sentences

from fairseq_cgc.mt.evaluate.comparison import Comparison, compare
from fairseq_cgc.mt.evaluate.significance import PairedTest, paired_bootstrap
from fairseq_cgc.support.errors import UserError

REFERENCES = sentences(40)
A, B = noisy(REFERENCES, 0.45, seed=1), noisy(REFERENCES, 0.4, seed=2)


def with_bleu(a: float, b: float, p_value: float) -> Comparison:
    """A comparison of 1,000 samples with that outcome."""
    bleu = PairedTest("BLEU", a, b, p_value, (a - 1, a + 1), (b - 1, b + 1), "bleu|signature")
    comparison = compare(REFERENCES[:2], A[:2], B[:2], samples=5)
    return dataclasses.replace(comparison, tests=[bleu, comparison.tests[1]], samples=1000)


def test_sentences_and_their_scores() -> None:
    comparison = compare(REFERENCES, A, B, sources=[f"s{i}" for i in range(40)], samples=5)
    assert [s.number for s in comparison.sentences] == list(range(1, 41))
    seventh = comparison.sentences[6]
    assert (seventh.source, seventh.reference, seventh.a, seventh.b) == (
        "s6", REFERENCES[6], A[6], B[6],
    )  # fmt: skip
    assert seventh.score_a == chrf_score([A[6]], [REFERENCES[6]]).score
    assert seventh.difference == seventh.score_b - seventh.score_a
    assert compare(REFERENCES, A, B, samples=5).sentences[6].source is None


def test_whole_scores_are_those_of_the_test() -> None:
    comparison = compare(REFERENCES, A, B, samples=50, lowercase=True)
    assert comparison.tests == paired_bootstrap(B, A, REFERENCES, samples=50, lowercase=True)
    assert comparison.tests[0].baseline == sacrebleu_score(A, REFERENCES, lowercase=True).score
    assert comparison.tests[0].difference > 0


def test_length_ratio_and_brevity_penalty_by_hand() -> None:
    """6 tokens of 9 and 12 of 9: exp(1 - 9 / 6), and no penalty."""
    references = ["a b c d e", "f g h i"]
    comparison = compare(references, ["a b c", "f g h"], ["a " * 6, "f " * 6], samples=5)
    short, long = comparison.lengths
    assert (short.ratio, long.ratio) == (pytest.approx(6 / 9), pytest.approx(12 / 9))
    assert (short.brevity_penalty, long.brevity_penalty) == (pytest.approx(0.60653, abs=1e-5), 1)


def test_length_groups_are_the_corpus_in_parts() -> None:
    groups = compare(REFERENCES, A, B, samples=5).groups
    assert 3 <= len(groups) <= 5 and sum(group.sentences for group in groups) == 40
    for group, after in zip(groups, groups[1:], strict=False):
        assert group.longest + 1 == after.shortest
    middle = groups[2]
    chosen = [
        i for i in range(40) if middle.shortest <= len(REFERENCES[i].split()) <= middle.longest
    ]
    assert middle.sentences == len(chosen)
    for lines, score in zip((A, B), middle.bleu, strict=True):
        part = sacrebleu_score([lines[i] for i in chosen], [REFERENCES[i] for i in chosen])
        assert score == part.score


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_few_sentences_have_few_groups(number: int) -> None:
    references = [" ".join("abcdefgh"[: i + 1]) for i in range(number)]
    groups = compare(references, references, references, samples=5).groups
    assert sum(group.sentences for group in groups) == number
    assert (groups[0].shortest, groups[-1].longest) == (1, number)
    same = compare(["a b c"] * number, ["a"] * number, ["b"] * number, samples=5).groups
    assert [(group.shortest, group.longest, group.sentences) for group in same] == [(3, 3, number)]


def test_chinese_is_measured_in_characters() -> None:
    lines = ["你好世界今天", "好"]
    groups = compare(lines, lines, lines, samples=5, target_lang="zh").groups
    assert (groups[0].shortest, groups[-1].longest) == (1, 6)


def test_most_different_sentences() -> None:
    references = ["the red house"] * 5
    a = ["the red house", "a red house", "x", "the red house", "a red house"]
    b = ["the red house", "the red house", "the red house", "x", "the red house"]
    comparison = compare(references, a, b, samples=5)
    # 3 and 4 differ by 100 either way; 2 and 5 alike; 1 not at all.
    assert [s.number for s in comparison.most_different(50)] == [3, 4, 2, 5]
    assert [s.number for s in comparison.most_different(3)] == [3, 4, 2]
    assert compare(references, a, a, samples=5).most_different(50) == []


@pytest.mark.parametrize(
    "a, b, p_value, verdict",
    [
        (30.0, 30.42, 0.012, "B is better than A by 0.42 BLEU; p = 0.012 in 1,000 paired"),
        (30.42, 30.0, 0.0001, "A is better than B by 0.42 BLEU; p < 0.001 in 1,000 paired"),
        (30.0, 30.42, 0.05, "B scores 0.42 BLEU more than A, but the difference is not signif"),
        (30.5, 30.42, 0.4, "A scores 0.08 BLEU more than B, but the difference is not signif"),
        (30.0, 30.001, 0.01, "B is better than A by less than 0.01 BLEU; p = 0.010 in"),
        (30.0, 30.0, 1.0, "A and B have the same BLEU."),
    ],
)
def test_verdict_follows_the_difference_and_p(
    a: float, b: float, p_value: float, verdict: str
) -> None:
    assert with_bleu(a, b, p_value).verdict.startswith(verdict)


def test_verdict_names_the_test() -> None:
    comparison = dataclasses.replace(
        with_bleu(30, 31, 0.012), test="approximate-randomization", names=("base", "ours")
    )
    assert comparison.verdict == (
        "ours is better than base by 1.00 BLEU; p = 0.012 in 1,000 trials of approximate "
        "randomisation."
    )


def test_table_is_aligned_and_rounded() -> None:
    comparison = dataclasses.replace(with_bleu(30.0, 29.5, 0.0123), notes=["take care"])
    lines = comparison.table().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 6 and len({len(row) for row in rows}) == 1
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells[0] == ["", "A", "B", "difference", "p"]
    assert cells[2] == [
        "BLEU", "30.00 (29.00 to 31.00)", "29.50 (28.50 to 30.50)", "-0.50", "0.012",
    ]  # fmt: skip
    assert [row[0] for row in cells[3:]] == ["chrF2", "length ratio", "brevity penalty"]
    assert "BLEU:  bleu|signature" in lines and "note:  take care" in lines
    assert lines[-1] == comparison.verdict


def test_swapping_the_systems() -> None:
    forth, back = compare(REFERENCES, A, B, samples=50), compare(REFERENCES, B, A, samples=50)
    assert forth.lengths == back.lengths[::-1]
    assert [s.difference for s in forth.sentences] == [-s.difference for s in back.sentences]
    assert [s.number for s in forth.most_different(9)] == [s.number for s in back.most_different(9)]
    assert forth.tests[0].p_value == back.tests[0].p_value


def test_notes_about_common_mistakes() -> None:
    references = ["The cat ."] * 120
    lower, cased = ["the cat ."] * 120, ["The cat."] * 120
    notes = compare(references, lower, cased, names=("low", "high"), samples=5).notes
    assert len(notes) == 2
    assert notes[0].startswith("120 lines of low end in a tokenised full stop")
    assert notes[1].startswith("low is all lower case and the references are not")
    assert compare(references, lower, cased, samples=5, lowercase=True, tokenized=True).notes == []


@pytest.mark.parametrize(
    "change, message",
    [
        ({"names": ("x", "x")}, "--names must be two different names, but are 'x,x'"),
        ({"a": ["one"]}, "A has 1 lines, but references has 40"),
        ({"sources": ["one", "two"]}, "the source has 2 lines, but references has 40"),
    ],
)
def test_what_does_not_fit(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compare(**{"references": REFERENCES, "a": A, "b": B, "samples": 5, **change})
