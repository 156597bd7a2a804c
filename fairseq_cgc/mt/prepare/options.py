"""How raw text becomes data: the options, their place on the command line and their checks."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fairseq_cgc.inference.text.lines import check_workers
from fairseq_cgc.inference.text.pipeline import TOKENIZERS, TextPipeline
from fairseq_cgc.inference.text.subwords import MODEL_FILES
from fairseq_cgc.mt.prepare.corpora import keep_pair
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.options import (
    AT_LEAST_1,
    Range,
    add_options,
    check_values,
    demand,
    given_values,
    setting,
)

#: Options that no command has: a recipe sets them, and ``like`` takes them over.
OF_A_RECIPE = ("lowercase_last", "straight_apostrophes", "strict_tokenizer")

_POSITIVE = Range("positive", lambda value: value >= 1)


@dataclass(frozen=True)
class PrepareOptions:
    """What decides the result of a preparation, except ``workers``, which only shortens it."""

    source_lang: str
    target_lang: str
    tokenizer: str = setting(
        "moses",
        "none: the text is tokenised already (give --no-normalize too, or punctuation may be glued "
        "to words), or sentencepiece splits it",
        TOKENIZERS,
    )
    normalize: bool = setting(True, "normalise punctuation as Moses does (yes)")
    lowercase: bool = setting(True, "lower-case all text (no)")  # the command's default
    subwords: str = "subword_nmt"
    bpe_size: int = setting(
        10000, "merges (subword-nmt) or pieces (sentencepiece) to learn", range_=_POSITIVE
    )
    joined_dictionary: bool = True
    max_tokens: int = setting(
        250, "drop training pairs with more than TOKENS tokens on a side", range_=_POSITIVE
    )
    max_ratio: float | None = setting(
        None,
        "drop training pairs with a side more than RATIO times as long as the other (off)",
        range_=AT_LEAST_1,
    )
    lowercase_last: bool = False
    straight_apostrophes: bool = False
    strict_tokenizer: bool = False
    like: Path | None = None
    """A prepared data folder whose subword model and dictionaries are used: nothing is learnt."""
    workers: int = setting(1, "number of processes (one for each core)")

    @property
    def langs(self) -> tuple[str, str]:
        """Source and target language."""
        return self.source_lang, self.target_lang

    def pipeline(self, raw: dict[str, dict[str, str]] | None = None) -> TextPipeline:
        """The description that goes into the data folder."""
        names = [field.name for field in fields(TextPipeline) if hasattr(self, field.name)]
        return TextPipeline(
            **{name: getattr(self, name) for name in names},
            subword_model=MODEL_FILES[self.subwords],
            raw=raw or {},
        )

    def keeps(self, source: str, target: str) -> bool:
        """Whether a training pair is within the limits of length; see :func:`keep_pair`."""
        return keep_pair(source, target, self.max_tokens, self.max_ratio)

    def check(self) -> None:
        """Raise UserError for a value that cannot be right."""
        if self.source_lang == self.target_lang:
            raise UserError(
                f"--source-lang and --target-lang are both {self.source_lang}, but must differ"
            )
        check_workers(self.workers)
        demand(self, "subwords", self.subwords in MODEL_FILES, " or ".join(MODEL_FILES))
        self.pipeline()  # checks the other names
        check_values(self)


def add_arguments(
    parser: argparse.ArgumentParser,
    *,
    leave_out: Collection[str] = (),
    langs: tuple[str | None, str | None] = ("de", "en"),
    dictionary: str = "joined",
) -> None:
    """Add what every command that prepares text has: folder, languages, subwords, processes.

    Args:
        parser: of the command.
        leave_out: fields of :class:`PrepareOptions` that are not for the user to choose.
        langs: the usual source and target language; None for none.
        dictionary: ``joined`` or ``separate``, whichever is usual.
    """
    parser.add_argument("out", type=Path, help="folder to work in; OUT/bin is for fairseq-train")
    for side, verb, lang in zip(("source", "target"), ("from", "into"), langs, strict=True):
        parser.add_argument(
            f"--{side}-lang", default=lang, metavar="CODE",
            help=f"language to translate {verb}"
            + (f" ({lang})" if lang else ", which is the ending of its files"),
        )  # fmt: skip
    form = parser.add_argument_group("text and subwords")
    add_options(form, PrepareOptions, leave_out=leave_out, negatable=True)
    form.add_argument(
        "--bpe", dest="subwords", choices=("subword-nmt", "sentencepiece"),
        help="subword model, learnt on both languages together (subword-nmt)",
    )  # fmt: skip
    either = form.add_mutually_exclusive_group()
    for option, joins, help_ in (
        ("--joined-dictionary", True, "one dictionary for both languages"),
        ("--separate-dictionaries", False, "one dictionary for each language"),
    ):
        usual = " (the default)" if joins == (dictionary == "joined") else ""
        either.add_argument(
            option, dest="joined_dictionary", action="store_const", const=joins, help=help_ + usual
        )


def given_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields of :class:`PrepareOptions` for which the command line has values.

    Without ``--workers``, there is a process for each core.
    """
    given = {"workers": os.cpu_count() or 1, **given_values(arguments, PrepareOptions)}
    if "subwords" in given:
        given["subwords"] = given["subwords"].replace("-", "_")
    return given
