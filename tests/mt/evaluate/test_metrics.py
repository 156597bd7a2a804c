from __future__ import annotations

import json
import math
import random
from collections import Counter

import pytest
from outputs import chrf_score, noisy, sacrebleu_score, sentences, ter_among_the_metrics
from sacrebleu.metrics import TER

from fairseq_cgc.mt.evaluate import metrics
from fairseq_cgc.mt.evaluate.comparison import compare
from fairseq_cgc.mt.evaluate.metrics import (
    PlainTextScore,
    Scores,
    Texts,
    TokenizedBleu,
    check_paired,
    score_texts,
    tokenized_bleu,
)
from fairseq_cgc.support.errors import UserError


def bleu_by_definition(hypotheses: list[str], references: list[str]) -> tuple[float, list[float]]:
    """BLEU-4 of Papineni et al. (2002), one reference, in per cent."""
    precisions = []
    for order in range(1, 5):
        matches = total = 0
        for hypothesis, reference in zip(hypotheses, references, strict=True):
            grams = [
                Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))
                for words in (hypothesis.split(), reference.split())
            ]
            matches += (grams[0] & grams[1]).total()
            total += grams[0].total()
        precisions.append(matches / total)
    lengths = [sum(len(line.split()) for line in side) for side in (hypotheses, references)]
    brevity = min(1.0, math.exp(1 - lengths[1] / lengths[0]))
    score = 100 * brevity * math.exp(sum(math.log(value) for value in precisions) / 4)
    return score, [100 * value for value in precisions]


def test_tokenized_bleu_is_the_definition() -> None:
    draw = random.Random(5)
    references = [" ".join(draw.choices("abcdef", k=draw.randint(4, 15))) for _ in range(40)]
    hypotheses = [
        " ".join(word for word in line.split() if draw.random() < 0.9) for line in references
    ]
    bleu = tokenized_bleu(hypotheses, references)
    score, precisions = bleu_by_definition(hypotheses, references)
    assert bleu.score == pytest.approx(score)
    assert bleu.precisions == pytest.approx(precisions)
    assert bleu.brevity_penalty < 1
    assert bleu.reference_length == sum(len(line.split()) for line in references)


def test_identical_text_scores_100() -> None:
    lines = ["the cat sat on the mat", "a dog barked at the moon"]
    assert tokenized_bleu(lines, lines).score == pytest.approx(100)
    assert sacrebleu_score(lines, lines).score == pytest.approx(100)
    assert chrf_score(lines, lines).score == pytest.approx(100)


def test_unknown_words_match_nothing() -> None:
    hypothesis = ["a b <unk> d e"]
    assert tokenized_bleu(hypothesis, ["a b <<unk>> d e"]).precisions[0] == pytest.approx(80)
    assert tokenized_bleu(hypothesis, ["a b <unk> d e"]).precisions[0] == pytest.approx(80)


def test_an_empty_line_counts_one_token_as_in_fairseq() -> None:
    bleu = tokenized_bleu(["", "a b"], ["a b", ""])
    assert (bleu.score, bleu.system_length, bleu.reference_length) == (0.0, 3, 3)


def test_printing_fairseqs_line() -> None:
    line = (
        "Generate test with beam=6: BLEU4 = 34.51, 68.9/42.4/28.0/18.8 "
        "(BP=0.999, ratio=0.999, syslen=131034, reflen=131161)\n"
    )
    bleu = TokenizedBleu(34.51, (68.9, 42.4, 28.0, 18.8), 0.999, 131034, 131161)
    assert str(bleu) in line


def test_lowercase_is_in_score_and_signature() -> None:
    hypotheses, references = ["the cat sat on the mat"], ["The Cat sat on the Mat"]
    for score in (sacrebleu_score, chrf_score):
        cased = score(hypotheses, references)
        lowercased = score(hypotheses, references, lowercase=True)
        assert cased.score < 100 and lowercased.score == pytest.approx(100)
        assert "case:mixed" in cased.signature and "case:lc" in lowercased.signature
        assert "version:" in cased.signature


@pytest.mark.parametrize("code", ["zh", "zh_CN", "zh-tw", "zho", "chi", "ZHO_Hant", "yue_Hant"])
def test_chinese_has_its_own_tokeniser(code: str) -> None:
    assert "tok:zh" in sacrebleu_score(["你好"], ["你好"], target_lang=code).signature
    assert "tok:13a" in sacrebleu_score(["you"], ["you"], target_lang="eng_Latn").signature


@pytest.mark.parametrize("code", ["ja", "ja_XX", "jpn_Jpan", "ko", "ko_KR", "kor_Hang"])
def test_without_mecab_characters_are_scored(
    code: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in ("ja", "ko"):
        monkeypatch.setattr(f"sacrebleu.tokenizers.tokenizer_{module}_mecab.MeCab", None)
    metrics._warn_of_missing_mecab.cache_clear()
    for _ in range(2):
        score = sacrebleu_score(["これは本です。"], ["これは本です。"], target_lang=code)
    assert score.score == pytest.approx(100) and "tok:char" in score.signature
    assert len(caplog.messages) == 1 and "MeCab is not installed" in caplog.messages[0]


@pytest.mark.parametrize("score", [tokenized_bleu, sacrebleu_score, chrf_score])
def test_unpaired_lines_are_refused(score) -> None:
    with pytest.raises(UserError, match="hypotheses has 1 lines, but references has 2"):
        score(["a"], ["a", "b"])


def test_unpaired_lines_are_named() -> None:
    with pytest.raises(UserError, match="out.txt has 3 lines, but ref.txt has 2"):
        check_paired("abc", "de", hypotheses_name="out.txt", references_name="ref.txt")
    with pytest.raises(UserError, match="are empty"):
        check_paired([], [])


def test_table_and_json() -> None:
    scores = Scores(
        {
            "tokenized": TokenizedBleu(34.512, (68.9, 42.4, 28.0, 18.8), 1.0, 100, 100),
            "sacrebleu": PlainTextScore(5.0, "nrefs:1|case:lc"),
            "sacrebleu_other_case": PlainTextScore(4.0, "nrefs:1|case:mixed"),
            "chrf": PlainTextScore(100.0, "nrefs:1|nc:6"),
        },
        note="take care",
    )
    table = scores.table()
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) == 6 and len({len(row) for row in rows}) == 1
    assert all(row.count("|") == 3 for row in rows)
    assert rows[2:5] == [
        "| tokenised BLEU-4      |  34.51 |",
        "| sacreBLEU, lower case |   5.00 |",
        "| sacreBLEU, cased      |   4.00 |",
    ]
    for part in (
        "68.9/42.4/28.0/18.8",
        "nrefs:1|case:lc",
        "nrefs:1|case:mixed",
        "nrefs:1|nc:6",
        "take care",
    ):
        assert part in table
    values = json.loads(json.dumps(scores.to_json()))
    assert values["tokenized"]["score"] == 34.512
    assert values["sacrebleu"] == {"score": 5.0, "signature": "nrefs:1|case:lc"}
    assert values["sacrebleu_other_case"] == {"score": 4.0, "signature": "nrefs:1|case:mixed"}
    assert values["note"] == "take care"


def test_a_new_metric_is_one_entry() -> None:
    """TER is computed, shown and recorded by what iterates over the table."""
    references = sentences(8)
    hypotheses = noisy(references, 0.4, seed=1)
    texts = Texts(references, hypotheses, references, hypotheses, references, lowercase=True)
    with ter_among_the_metrics():
        scores = score_texts(texts)
        expected = TER().corpus_score(hypotheses, [references]).score
        assert list(scores.to_json()) == [
            *("tokenized", "sacrebleu", "sacrebleu_other_case", "chrf", "ter", "note")
        ]
        assert scores.to_json()["ter"]["score"] == expected > 0
        assert f"| TER (lower is better) | {expected:6.2f} |" in scores.table()
        assert "case:lc" in scores.to_json()["ter"]["signature"]
        comparison = compare(references, hypotheses, references, samples=5)
        (name, a, b, difference, _) = comparison.rows()[2]
        assert (name, difference) == ("TER (lower is better)", f"-{expected:.2f}")
        assert a.startswith(f"{expected:.2f} (") and b.startswith("0.00 (")
