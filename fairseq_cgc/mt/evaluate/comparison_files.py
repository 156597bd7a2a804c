"""Compare two files of translations and write the page about it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from fairseq_cgc.inference.text.lines import read_lines
from fairseq_cgc.mt.evaluate.comparison import Comparison, compare
from fairseq_cgc.mt.evaluate.comparison_page import comparison_page
from fairseq_cgc.mt.evaluate.metrics import check_paired
from fairseq_cgc.mt.evaluate.significance import SAMPLES, TESTS
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import new_file
from fairseq_cgc.support.options import AT_LEAST_1, check_values, setting

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompareOptions:
    """How two files are compared; every field is an option of ``fairseq-cgc compare``."""

    source: Path | None = setting(None, "the source text, shown on the page")
    names: str | None = setting(
        None, "names of the systems (taken from the paths of their files)", metavar="A,B"
    )
    lowercase: bool = setting(False, "ignore case")
    target_lang: str = setting(
        "",
        "target language, such as de or zh_CN; BLEU has special tokenisers for Chinese, Japanese "
        "and Korean (none)",
    )
    tokenized: bool = setting(False, "do not warn that the text is tokenised")
    test: str = setting(
        "bootstrap",
        f"{' or '.join(TESTS)}; the first is in effect one-sided, as in Moses and sacreBLEU, the "
        "second is two-sided",
    )
    samples: int = setting(SAMPLES, "number of resampled test sets, or of trials")
    html: Path | None = setting(None, "write an HTML page to this file")
    top: int = setting(50, "number of sentences on the page", range_=AT_LEAST_1)

    def __post_init__(self) -> None:
        check_values(self)


def compare_files(
    reference: Path, system_a: Path, system_b: Path, options: CompareOptions
) -> Comparison:
    """Compare two outputs, one sentence on each line, plain or gzip.

    Raises:
        UserError: if a file cannot be read, is empty or has not as many lines as the reference,
            or the page cannot be written; nothing is written then.
    """
    files = [path for path in (reference, system_a, system_b, options.source) if path is not None]
    names = _parse_names(options.names) if options.names else default_names(system_a, system_b)
    if options.html is not None and options.html.resolve() in {path.resolve() for path in files}:
        raise UserError(f"--html {options.html} is one of the files to compare")
    texts = [list(read_lines(path)) for path in files]
    for path, lines in zip(files[1:], texts[1:], strict=True):
        check_paired(lines, texts[0], hypotheses_name=str(path), references_name=str(reference))
    _log.info("comparing %d sentences", len(texts[0]))
    comparison = compare(
        *texts[:3],
        sources=texts[3] if options.source is not None else None,
        names=names,
        lowercase=options.lowercase,
        target_lang=options.target_lang,
        tokenized=options.tokenized,
        test=options.test,
        samples=options.samples,
    )
    if options.html is not None:
        page = comparison_page(comparison, top=options.top, target_lang=options.target_lang)
        with new_file(options.html) as partial:
            partial.write_text(page, encoding="utf-8")
    return comparison


def default_names(a: Path, b: Path) -> tuple[str, str]:
    """Names that tell two files apart: their file names, or else the names of their folders.

    Evaluations are all called ``hypotheses.txt``; their folders have the systems' names. Two paths
    that are the same give A and B.
    """
    parts = [reversed(path.resolve().parts) for path in (a, b)]
    for first, second in zip(*parts, strict=False):
        if first != second:
            names = (_without_ending(first), _without_ending(second))
            return names if names[0] != names[1] else (first, second)
    return "A", "B"


def _without_ending(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".txt") or name


def _parse_names(text: str) -> tuple[str, str]:
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise UserError(f"--names must be two different names, as in base,cgc, but is {text!r}")
    return names[0], names[1]
