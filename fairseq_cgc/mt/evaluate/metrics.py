"""Scores of translations: the paper's tokenised BLEU-4, sacreBLEU and chrF.

Tokenised BLEU is what fairseq computes and the paper reports: it depends on how the text was
tokenised and compares only with numbers made the same way. sacreBLEU and chrF take plain text and
untouched references; their signatures say all that is needed to compare them with the literature.

No score here splits compounds at hyphens (``##AT##-##AT##``), as fairseq's recipes for English to
German do; that raises BLEU.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fairseq.data import Dictionary
from fairseq.scoring.bleu import BleuConfig, Scorer
from sacrebleu.metrics import BLEU, CHRF

from fairseq_cgc.inference.text.languages import short_code
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.tables import markdown

_log = logging.getLogger(__name__)

#: Languages besides Chinese whose words stand without spaces, in Chinese characters.
_WRITTEN_IN_CHINESE = ("lzh", "wuu", "yue")
_RESULT = re.compile(
    r"BLEU4 = (?P<score>[\d.]+), (?P<precisions>[\d./]+) \(BP=(?P<brevity>[\d.]+), "
    r"ratio=[\d.]+, syslen=(?P<system>\d+), reflen=(?P<reference>\d+)\)"
)


@dataclass(frozen=True)
class TokenizedBleu:
    """BLEU-4 over space-separated tokens, without smoothing, as in ``fairseq-generate``."""

    score: float
    """0 to 100."""
    precisions: tuple[float, ...]
    """Of 1- to 4-grams, in per cent."""
    brevity_penalty: float
    system_length: int
    """Tokens in all hypotheses."""
    reference_length: int
    """Tokens in all references."""

    def __str__(self) -> str:
        precisions = "/".join(f"{value:.1f}" for value in self.precisions)
        return (
            f"BLEU4 = {self.score:.2f}, {precisions} (BP={self.brevity_penalty:.3f}, "
            f"ratio={self.system_length / self.reference_length:.3f}, "
            f"syslen={self.system_length}, reflen={self.reference_length})"
        )

    @classmethod
    def parse(cls, text: str) -> TokenizedBleu | None:
        """Read what ``fairseq-generate`` prints last; ``None`` if ``text`` holds no such result."""
        match = _RESULT.search(text)
        if match is None:
            return None
        return cls(
            score=float(match["score"]),
            precisions=tuple(map(float, match["precisions"].split("/"))),
            brevity_penalty=float(match["brevity"]),
            system_length=int(match["system"]),
            reference_length=int(match["reference"]),
        )


@dataclass(frozen=True)
class PlainTextScore:
    """A score of sacreBLEU with what makes it comparable."""

    score: float
    """0 to 100."""
    signature: str

    @property
    def lowercase(self) -> bool:
        """Whether case was disregarded."""
        return "case:lc" in self.signature.split("|")


def tokenized_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> TokenizedBleu:
    """Score lines of tokens with fairseq's own scorer (which counts an empty line as one token).

    Args:
        hypotheses: one line of space-separated tokens a sentence, subwords joined.
        references: likewise, with unknown words written ``<<unk>>`` as fairseq does, so that they
            match nothing.

    Raises:
        UserError: if the numbers of lines differ.
    """
    check_paired(hypotheses, references)
    dictionary = Dictionary()
    scorer = Scorer(BleuConfig(pad=dictionary.pad(), eos=dictionary.eos(), unk=dictionary.unk()))
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        scorer.add(dictionary.encode_line(reference), dictionary.encode_line(hypothesis))
    return TokenizedBleu(
        score=scorer.score(),
        precisions=tuple(100.0 * value for value in scorer.precision()),
        brevity_penalty=scorer.brevity(),
        system_length=scorer.stat.predlen,
        reference_length=scorer.stat.reflen,
    )


def bleu_metric(*, lowercase: bool = False, target_lang: str = "", tokenized: bool = False) -> BLEU:
    """sacreBLEU's BLEU as every score and test here uses it.

    Chinese, Japanese and Korean have tokenisers of their own. Without MeCab, Japanese and Korean
    are scored by character, with a warning; the signature says which tokeniser it was.
    """
    lang = short_code(target_lang)
    lang = "zh" if lang in _WRITTEN_IN_CHINESE else lang
    try:
        return BLEU(lowercase=lowercase, trg_lang=lang, force=tokenized)
    except RuntimeError:
        _warn_of_missing_mecab(lang)
        return BLEU(lowercase=lowercase, tokenize="char", force=tokenized)


@functools.cache
def _warn_of_missing_mecab(lang: str) -> None:
    _log.warning(
        "MeCab is not installed: BLEU is over characters (tok:char), not over words (tok:%s-mecab);"
        " for those, pip install 'sacrebleu[%s]'", lang, lang,
    )  # fmt: skip


def chrf_metric(*, lowercase: bool = False) -> CHRF:
    """sacreBLEU's chrF2 as every score and test here uses it."""
    return CHRF(lowercase=lowercase)


def sacrebleu_score(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    lowercase: bool = False,
    target_lang: str = "",
    tokenized: bool = False,
) -> PlainTextScore:
    """sacreBLEU of plain text.

    Args:
        hypotheses: one line a sentence.
        references: one line a sentence.
        lowercase: compare without regard to case (for a pipeline that lower-cases).
        target_lang: language code; for some languages sacreBLEU has its own tokeniser.
        tokenized: the text is known to be tokenised, so do not warn about it.

    Raises:
        UserError: if the numbers of lines differ.
    """
    check_paired(hypotheses, references)
    metric = bleu_metric(lowercase=lowercase, target_lang=target_lang, tokenized=tokenized)
    score = metric.corpus_score(list(hypotheses), [list(references)]).score
    return PlainTextScore(score=score, signature=str(metric.get_signature()))


def chrf_score(
    hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False
) -> PlainTextScore:
    """chrF2 of plain text; arguments and error as for :func:`sacrebleu_score`."""
    check_paired(hypotheses, references)
    metric = chrf_metric(lowercase=lowercase)
    score = metric.corpus_score(list(hypotheses), [list(references)]).score
    return PlainTextScore(score=score, signature=str(metric.get_signature()))


def check_paired(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    hypotheses_name: str = "hypotheses",
    references_name: str = "references",
) -> None:
    """Require one reference for every hypothesis.

    Raises:
        UserError: if the numbers of lines differ, naming both, or are 0.
    """
    if len(hypotheses) != len(references):
        raise UserError(
            f"{hypotheses_name} has {len(hypotheses)} lines, "
            f"but {references_name} has {len(references)}"
        )
    if not hypotheses:
        raise UserError(f"{hypotheses_name} and {references_name} are empty")


@dataclass(frozen=True)
class Scores:
    """All scores of one set of translations."""

    tokenized: TokenizedBleu
    sacrebleu: PlainTextScore
    """With the case that the translations have: without regard to it if they are lower case."""
    sacrebleu_other_case: PlainTextScore
    """The other way: with regard to case if ``sacrebleu`` is without, and the reverse."""
    chrf: PlainTextScore
    note: str | None = None
    """What a reader must know before comparing, for example that the text is tokenised."""

    def to_json(self) -> dict[str, Any]:
        """Only dictionaries, lists, strings and numbers."""
        return dataclasses.asdict(self)

    def table(self) -> str:
        """An aligned Markdown table; what makes the numbers comparable stands below it."""
        rows = [
            ("tokenised BLEU-4", self.tokenized.score, str(self.tokenized)),
            *(
                (
                    f"sacreBLEU, {'lower case' if score.lowercase else 'cased'}",
                    score.score,
                    score.signature,
                )
                for score in (self.sacrebleu, self.sacrebleu_other_case)
            ),
            ("chrF2", self.chrf.score, self.chrf.signature),
        ]
        width = max(len(name) for name, _, _ in rows)
        cells = [(name, f"{score:6.2f}") for name, score, _ in rows]
        lines = [*markdown(("metric", "score"), cells, aligned=True)]
        # Not in the table: signatures contain the character that separates columns.
        lines += ["", *(f"{name + ':':{width + 1}} {details}" for name, _, details in rows)]
        if self.note is not None:
            lines.append(f"{'note:':{width + 1}} {self.note}")
        return "\n".join(lines)
