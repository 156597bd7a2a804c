"""The metrics of translations, in one table; every score, test and report is made from it.

Tokenised BLEU is what fairseq computes and the paper reports. It depends on how the text was
tokenised and compares only with numbers made the same way. sacreBLEU and chrF take plain text and
untouched references; their signatures say all that is needed to compare them with the literature.

No score here splits compounds at hyphens (``##AT##-##AT##``), as fairseq's recipes for English to
German do; that raises BLEU.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric as SacrebleuMetric

from fairseq_cgc.inference.text.languages import short_code
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.tables import markdown

_log = logging.getLogger(__name__)

#: Languages besides Chinese that are written in Chinese characters, without spaces.
_WRITTEN_IN_CHINESE = ("lzh", "wuu", "yue")


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
            f"ratio={self.length_ratio:.3f}, "
            f"syslen={self.system_length}, reflen={self.reference_length})"
        )

    @property
    def length_ratio(self) -> float:
        """Hypothesis tokens per reference token."""
        return self.system_length / self.reference_length


@dataclass(frozen=True)
class PlainTextScore:
    """A score of plain text with the signature that makes it comparable."""

    score: float
    signature: str

    def __str__(self) -> str:
        return self.signature


Score = TokenizedBleu | PlainTextScore


@dataclass(frozen=True)
class Texts:
    """A test set and its translations, one line for each sentence in every list."""

    sources: Sequence[str]
    """Plain text, or tokens where the data have no raw text."""
    hypotheses: Sequence[str]
    """Plain text, detokenised."""
    references: Sequence[str]
    hypothesis_tokens: Sequence[str]
    """Tokens separated by spaces, subwords joined."""
    reference_tokens: Sequence[str]
    lowercase: bool = False
    """Whether the translations are in lower case, so that scores should ignore case."""
    target_lang: str = ""
    tokenized: bool = False
    """Whether the plain text is known to be tokenised, so that nobody needs a warning."""


def tokenized_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> TokenizedBleu:
    """Score lines of tokens with fairseq's own scorer, which counts an empty line as one token.

    Args:
        hypotheses: one line of space-separated tokens for each sentence, subwords joined.
        references: the same, with unknown words written ``<<unk>>`` as fairseq does, so that they
            match nothing.

    Raises:
        UserError: if the numbers of lines differ.
    """
    # Imported here so that comparing texts needs no fairseq; the first import repairs it.
    import fairseq_cgc.models  # noqa: F401, I001
    from fairseq.data import Dictionary
    from fairseq.scoring.bleu import BleuConfig, Scorer

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
    """sacreBLEU's BLEU.

    Chinese, Japanese and Korean have tokenisers of their own. Without MeCab, Japanese and Korean
    are scored by character, with a warning; the signature names the tokeniser.

    Args:
        lowercase: ignore case.
        target_lang: language code; for some languages sacreBLEU has its own tokeniser.
        tokenized: the text is known to be tokenised, so do not warn about it.
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


def chrf_metric(*, lowercase: bool = False, **_: object) -> CHRF:
    """sacreBLEU's chrF2; arguments as for :func:`bleu_metric`."""
    return CHRF(lowercase=lowercase)


def corpus_score(
    metric: SacrebleuMetric, hypotheses: Sequence[str], references: Sequence[str]
) -> PlainTextScore:
    """Score plain text, one line for each sentence, with a metric of sacreBLEU.

    Raises:
        UserError: if the numbers of lines differ.
    """
    check_paired(hypotheses, references)
    score = metric.corpus_score(list(hypotheses), [list(references)]).score
    return PlainTextScore(score, str(metric.get_signature()))


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
class Metric:
    """One entry of :data:`METRICS`."""

    key: str
    """Its name in ``scores.json``."""
    label: str
    """Its name in tables; ``{case}`` stands for ``cased`` or ``lower case``."""
    compute: Callable[[Texts], Score]
    column: tuple[str, str] | None = None
    """In tables of experiments: its name in the JSON and its heading. None: it has no column."""
    paired: tuple[str, Callable[..., SacrebleuMetric]] | None = None
    """For paired tests: its name there, and a function with the options of :func:`bleu_metric`.
    None: it is not tested."""
    higher_is_better: bool = True

    @property
    def direction(self) -> str:
        """To be added to headings where a reader would expect that higher is better."""
        return "" if self.higher_is_better else " (lower is better)"


def of_sacrebleu(
    make: Callable[..., SacrebleuMetric], *, other_case: bool = False
) -> Callable[[Texts], Score]:
    """:attr:`Metric.compute` of a metric of sacreBLEU.

    Args:
        make: see :attr:`Metric.paired`.
        other_case: regard case if the translations are in lower case, and the reverse.
    """

    def compute(texts: Texts) -> Score:
        metric = make(
            lowercase=texts.lowercase != other_case,
            target_lang=texts.target_lang,
            # One warning about tokenised text is enough.
            tokenized=texts.tokenized or other_case,
        )
        return corpus_score(metric, texts.hypotheses, texts.references)

    return compute


#: All metrics, in the order of tables. A new one is an entry here.
METRICS = [
    Metric(
        key="tokenized",
        label="tokenised BLEU-4",
        compute=lambda texts: tokenized_bleu(texts.hypothesis_tokens, texts.reference_tokens),
        column=("bleu", "BLEU-4"),
    ),
    Metric(
        key="sacrebleu",
        label="sacreBLEU, {case}",
        compute=of_sacrebleu(bleu_metric),
        column=("sacrebleu", "sacreBLEU"),
        paired=("BLEU", bleu_metric),
    ),
    Metric(
        key="sacrebleu_other_case",
        label="sacreBLEU, {case}",
        compute=of_sacrebleu(bleu_metric, other_case=True),
    ),
    Metric(
        key="chrf",
        label="chrF2",
        compute=of_sacrebleu(chrf_metric),
        column=("chrf", "chrF2"),
        paired=("chrF2", chrf_metric),
    ),
]


@dataclass(frozen=True)
class Scores:
    """All scores of one set of translations."""

    values: Mapping[str, Score]
    """By :attr:`Metric.key`."""
    note: str | None = None
    """What a reader must know before comparing, for example that the text is tokenised."""

    def __getitem__(self, key: str) -> Score:
        return self.values[key]

    def to_json(self) -> dict[str, Any]:
        """Only dictionaries, lists, strings and numbers."""
        values = {key: dataclasses.asdict(score) for key, score in self.values.items()}
        return {**values, "note": self.note}

    def table(self) -> str:
        """An aligned Markdown table; what makes the numbers comparable stands below it."""
        rows = []
        for metric in METRICS:
            score, details = self[metric.key].score, str(self[metric.key])
            case = "lower case" if "case:lc" in details.split("|") else "cased"
            rows.append((metric.label.format(case=case) + metric.direction, score, details))
        width = max(len(name) for name, _, _ in rows)
        cells = [(name, f"{score:6.2f}") for name, score, _ in rows]
        lines = [*markdown(("metric", "score"), cells, aligned=True)]
        # Not in the table: signatures contain the character that separates columns.
        lines += ["", *(f"{name + ':':{width + 1}} {details}" for name, _, details in rows)]
        if self.note is not None:
            lines.append(f"{'note:':{width + 1}} {self.note}")
        return "\n".join(lines)


def score_texts(texts: Texts, note: str | None = None) -> Scores:
    """Compute every metric.

    Raises:
        UserError: if the numbers of lines differ.
    """
    return Scores({metric.key: metric.compute(texts) for metric in METRICS}, note)
