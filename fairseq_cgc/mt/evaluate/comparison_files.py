"""Compare two files of translations and write the page about it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from fairseq_cgc.inference.text.lines import read_lines
from fairseq_cgc.mt.evaluate.comparison import Comparison, compare
from fairseq_cgc.mt.evaluate.comparison_page import comparison_page
from fairseq_cgc.mt.evaluate.metrics import check_paired
from fairseq_cgc.mt.evaluate.significance import SAMPLES
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import new_file

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompareOptions:
    """How two files are compared; the fields are the options of ``fairseq-cgc compare``."""

    source: Path | None = None
    names: str | None = None
    """``A,B``; from the files' names if missing."""
    lowercase: bool = False
    target_lang: str = ""
    tokenized: bool = False
    test: str = "bootstrap"
    samples: int = SAMPLES
    html: Path | None = None
    """Where to write the page, if any."""
    top: int = 50

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UserError(f"--top must be at least 1, but is {self.top}")


def compare_files(
    reference: Path, system_a: Path, system_b: Path, options: CompareOptions
) -> Comparison:
    """Compare two outputs, one sentence a line, plain or gzip.

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
    """What tells two files apart: their names, or else their folders'; A and B if nothing does.

    Evaluations are all called ``hypotheses.txt``; their folders have the systems' names.
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
