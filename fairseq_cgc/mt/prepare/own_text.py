"""Anybody's parallel text to fairseq data.

A text is named by a prefix: ``PREFIX.deu`` and ``PREFIX.eng``, plain or ``.gz``. ``OUT/orig`` holds
the splits as plain raw text, held-out pairs already taken out of the training text;
``preparation.py`` makes the rest of it.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from fairseq_cgc.inference.text.languages import is_language_code
from fairseq_cgc.inference.text.lines import read_lines, write_lines
from fairseq_cgc.inference.text.moses import check_language
from fairseq_cgc.inference.text.pipeline import TextPipeline
from fairseq_cgc.mt.prepare.binarize import check_path
from fairseq_cgc.mt.prepare.corpora import check_pairs, keep_pair, read_pairs
from fairseq_cgc.mt.prepare.held_out import COPY, TRAIN, choose_pairs
from fairseq_cgc.mt.prepare.preparation import OF_A_RECIPE, Prepared, PrepareOptions, prepare
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import sha256_of
from fairseq_cgc.support.settings_record import is_done, make_step, only_process_in, read_counts

logger = logging.getLogger(__name__)

#: The files of one text, source and target.
Files = tuple[Path, Path]


@dataclass(frozen=True)
class OwnText:
    """Which text becomes which split: prefixes of files, or numbers of pairs to hold out."""

    train: Sequence[str] = ()
    """Prefixes; their pairs are joined in this order."""
    valid: str | int | None = None
    tests: Sequence[str | int] = ()
    """They become ``test``, ``test1``, ..."""
    seed: int = 1
    """Of the choice of the pairs held out."""

    def evaluation(self) -> dict[str, str | int]:
        """Split -> prefix or number."""
        valid = {} if self.valid is None else {"valid": self.valid}
        return valid | {f"test{i or ''}": text for i, text in enumerate(self.tests)}

    def held_out(self) -> dict[str, int]:
        """Split -> number of pairs, for the splits that are taken from the training text."""
        return {split: n for split, n in self.evaluation().items() if isinstance(n, int)}

    def check(self, *, like: bool) -> None:
        """Raise UserError for what is missing or out of range.

        Args:
            like: whether subwords and dictionaries are there already.
        """
        for split, number in self.held_out().items():
            if number < 1:
                raise UserError(
                    f"{_option(split)} is {number}, but must be a prefix of files or a number of "
                    "pairs, at least 1"
                )
            if not self.train:
                raise UserError(f"{_option(split)} {number} holds out pairs of --train; give that")
        if not like and not self.train:
            raise UserError("--train is missing; only with --like is none needed")
        if self.train and self.valid is None:
            raise UserError("--valid is missing; training text needs validation text")
        if not self.train and not self.evaluation():
            raise UserError("nothing to prepare: give --train, --valid or --test")


def check_own_language(lang: str, option: str, *, tokenizes: bool = True) -> None:
    """Check a code that names files.

    Args:
        lang: the code.
        option: its name for messages.
        tokenizes: whether Moses' tokeniser is used; a line is logged if it has no rules for the
            language.

    Raises:
        UserError: if fairseq could not find the files of that code.
    """
    if not re.fullmatch(r"[A-Za-z0-9_]+(-[A-Za-z0-9_]+)*", lang):
        raise UserError(
            f"{option} is {lang!r}, but must be made of letters (a to z), digits, - and _"
        )
    if tokenizes and is_language_code(lang):
        check_language(lang, option)
    elif tokenizes:
        logger.warning("%s is %s, no known language code; English's rules are used", option, lang)


def options_like(
    data_dir: Path,
    source_lang: str | None,
    target_lang: str | None,
    asked: Mapping[str, Any],
    **others: Any,
) -> PrepareOptions:
    """The options that text is prepared with so that the models of ``data_dir`` fit it.

    Args:
        data_dir: prepared data.
        source_lang: one of its two languages; None takes its own direction.
        target_lang: the other.
        asked: fields of :class:`PrepareOptions` that ``data_dir`` decides, as far as the user
            asked for a value; else None.
        others: other fields.

    Raises:
        UserError: for options that contradict the data; if it is no prepared data.
    """
    pipeline = TextPipeline.load(data_dir)
    langs = (pipeline.source_lang, pipeline.target_lang)
    for option, lang in (("--source-lang", source_lang), ("--target-lang", target_lang)):
        if lang not in (None, *langs):
            raise UserError(
                f"{option} is {lang}, but --like {data_dir} holds {' and '.join(langs)}"
            )
    if source_lang == langs[1] or target_lang == langs[0]:
        langs = langs[::-1]
    if asked.get("bpe_size") is not None:
        raise UserError(
            f"--bpe-size is {asked['bpe_size']}, but --like {data_dir} has its subwords already; "
            "leave the option out"
        )
    taken = ("tokenizer", "normalize", "lowercase", "subwords", "joined_dictionary", *OF_A_RECIPE)
    values = {name: getattr(pipeline, name) for name in taken}
    for name, value in asked.items():
        if value is not None and value != values[name]:
            raise UserError(
                f"{_as_option(name, value)} contradicts --like {data_dir}, made with "
                f"{_as_option(name, values[name])}; leave the option out"
            )
    return PrepareOptions(
        source_lang=source_lang or langs[0],
        target_lang=target_lang or langs[1],
        like=data_dir,
        **values,
        **others,
    )


def prepare_own_text(
    text: OwnText, out: Path, options: PrepareOptions
) -> tuple[Prepared, dict[str, int]]:
    """Make ``out/orig``, ``out/text``, ``out/bpe`` and ``out/bin``, or what is missing of them.

    Pairs of the training text with an empty side are dropped. A pair that is held out is one whose
    source occurs with no other target in the training text, and whose target with no other source;
    its copies leave the training text, so that no sentence of it is left there. Sentences count as
    the same if they differ only in case, punctuation and spaces.

    Args:
        text: what to prepare.
        out: folder to work in; made if needed.
        options: see :class:`PrepareOptions`.

    Returns:
        What was prepared, and counts of the training text: ``read``, ``empty`` (dropped for an
        empty side), ``copies`` (dropped as copies of held-out pairs), ``held_out``.

    Raises:
        UserError: missing files, the same file in two places, text that is not parallel, empty
            lines in evaluation text, more pairs to hold out than there are; as :func:`prepare`.
    """
    options.check()
    check_path(out)
    text.check(like=options.like is not None)
    langs = (options.source_lang, options.target_lang)
    for option, lang in zip(("--source-lang", "--target-lang"), langs, strict=True):
        check_own_language(lang, option, tokenizes=options.tokenizer == "moses")
    train = [_find(prefix, langs, "--train") for prefix in text.train]
    given = {
        split: _find(prefix, langs, _option(split))
        for split, prefix in text.evaluation().items()
        if isinstance(prefix, str)
    }
    _check_different(
        [("--train", files) for files in train]
        + [(_option(split), files) for split, files in given.items()]
    )

    settings: dict[str, Any] = {"source_lang": langs[0], "target_lang": langs[1]}
    named = {f"--train {i}": files for i, files in enumerate(train, start=1)} | given
    for name, files in named.items():
        for lang, path in zip(langs, files, strict=True):
            settings[f"{name}, {lang} (SHA-256)"] = sha256_of(path)
    if text.held_out():
        settings |= {f"pairs held out for {split}": n for split, n in text.held_out().items()}
        settings["seed"] = text.seed
        settings |= {"max_tokens": options.max_tokens, "max_ratio": options.max_ratio}
    orig = out / "orig"
    with only_process_in(out):
        if not is_done(orig, settings):
            make = functools.partial(_make_orig, text, train, given, options)
            make_step(orig, settings, make)
    splits = [*(["train"] if train else []), *text.evaluation()]
    raw = {split: {lang: orig / f"{split}.{lang}" for lang in langs} for split in splits}
    return prepare(raw, out, options), read_counts(orig)


def _as_option(name: str, value: Any) -> str:
    if name == "joined_dictionary":
        return "--joined-dictionary" if value else "--separate-dictionaries"
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{'bpe' if name == 'subwords' else name} {value.replace('_', '-')}"


def _option(split: str) -> str:
    return "--valid" if split == "valid" else "--test"


def _find(prefix: str, langs: tuple[str, str], option: str) -> Files:
    found = []
    for lang in langs:
        names = [Path(f"{prefix}.{lang}{suffix}") for suffix in ("", ".gz")]
        there = [path for path in names if path.is_file()]
        if not there:
            raise UserError(f"{option} {prefix}: there is neither {names[0]} nor {names[1]}")
        found.append(there[0])
    return found[0], found[1]


def _check_different(texts: Iterable[tuple[str, Files]]) -> None:
    """Raise UserError if a file is given twice."""
    seen: dict[Path, str] = {}
    for option, files in texts:
        for path in files:
            if (other := seen.get(path.resolve())) is not None:
                raise UserError(
                    f"{option}: {path} is given "
                    + ("twice" if other == option else f"as {other} too")
                    + "; every text belongs to one set"
                )
            seen[path.resolve()] = option


def _make_orig(
    text: OwnText,
    train: Sequence[Files],
    given: Mapping[str, Files],
    options: PrepareOptions,
    folder: Path,
) -> dict[str, int]:
    langs = (options.source_lang, options.target_lang)
    for split, files in given.items():
        check_pairs(*files, allow_empty=False)
        for lang, path in zip(langs, files, strict=True):
            write_lines(folder / f"{split}.{lang}", read_lines(path))
    counts = {"read": 0, "empty": 0, "copies": 0, "held_out": 0}
    if not train:
        return counts
    counts["read"] = sum(check_pairs(*files, allow_empty=True) for files in train)
    held_out = text.held_out()
    places = None
    if held_out:
        fits = functools.partial(
            keep_pair, max_tokens=options.max_tokens, max_ratio=options.max_ratio
        )
        bar = tqdm(_full_pairs(train), total=counts["read"], desc="compare pairs", unit="pair")
        places = choose_pairs(bar, list(held_out.values()), text.seed, fits)
    kept = 0
    splits = ["train", *held_out]
    with contextlib.ExitStack() as stack:
        outputs = [[_new_text(folder / f"{s}.{lang}", stack) for lang in langs] for s in splits]
        for number, pair in enumerate(_full_pairs(train)):
            kept += 1
            place = TRAIN if places is None else int(places[number])
            if place == COPY:
                counts["copies"] += 1
                continue
            counts["held_out"] += place != TRAIN
            for stream, line in zip(outputs[place], pair, strict=True):
                stream.write(line + "\n")
    counts["empty"] = counts["read"] - kept
    return counts


def _full_pairs(train: Iterable[Files]) -> Iterator[tuple[str, str]]:
    """The training pairs that have text on both sides."""
    pairs = itertools.chain.from_iterable(itertools.starmap(read_pairs, train))
    return (pair for pair in pairs if pair[0].strip() and pair[1].strip())


def _new_text(path: Path, stack: contextlib.ExitStack) -> TextIO:
    return stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
