"""Your own parallel text to fairseq data.

A text is named by a prefix: ``PREFIX.deu`` and ``PREFIX.eng``, plain or ``.gz``. ``OUT/orig`` holds
the splits as plain raw text, where held-out pairs have left the training text;
``preparation.py`` makes the rest.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fairseq_cgc.inference.text.languages import is_language_code
from fairseq_cgc.inference.text.moses import check_language
from fairseq_cgc.inference.text.pipeline import TextPipeline
from fairseq_cgc.mt.prepare.binarize import check_path
from fairseq_cgc.mt.prepare.corpora import check_pairs, read_pairs, write_pairs
from fairseq_cgc.mt.prepare.held_out import COPY, TRAIN, choose_pairs
from fairseq_cgc.mt.prepare.options import OF_A_RECIPE, PrepareOptions
from fairseq_cgc.mt.prepare.preparation import Prepared, prepare
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
    """Decides which pairs are held out."""

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
            like: subwords and dictionaries are taken from other data, so that no training text is
                needed.
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
    """Check a language code: raise UserError if fairseq could not read files with that ending.

    If the text is to be tokenised, it is logged when Moses has no rules for the language.
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
    """The options that prepare text for the models of other data.

    Args:
        data_dir: the other data, prepared.
        source_lang: one of its two languages; None takes its own direction.
        target_lang: the other language, or None.
        asked: what the user asked for among the fields of :class:`PrepareOptions` that
            ``data_dir`` decides; None for no value.
        others: the other fields.

    Raises:
        UserError: for options that contradict the data; if ``data_dir`` is not prepared data.
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

    Training pairs with an empty side are dropped. The pairs to hold out are chosen among those
    whose source occurs with no other target, and whose target with no other source. Their copies
    are dropped too, so that none of their sentences is left in the training text. Sentences that
    differ only in case, punctuation and spaces count as the same.

    Args:
        text: what to prepare.
        out: folder to work in; made if needed.
        options: see :class:`PrepareOptions`.

    Returns:
        What was prepared, and counts of the training text: ``read``, ``empty`` (dropped for an
        empty side), ``copies`` (dropped as copies of held-out pairs), ``held_out``.

    Raises:
        UserError: for missing files, a file that is given twice, text that is not parallel, empty
            lines in evaluation text, more pairs to hold out than there are; as :func:`prepare`.
    """
    options.check()
    check_path(out)
    text.check(like=options.like is not None)
    langs = options.langs
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
    if held_out := text.held_out():
        settings |= {f"pairs held out for {split}": number for split, number in held_out.items()}
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
    for split, files in given.items():
        check_pairs(*files, allow_empty=False)
        write_pairs(folder, split, options.langs, read_pairs(*files))
    read = sum(check_pairs(*files, allow_empty=True) for files in train)
    places: Iterable[int] = itertools.repeat(TRAIN)
    copies = 0
    if held_out := text.held_out():
        bar = tqdm(_full_pairs(train), total=read, desc="compare pairs", unit="pair")
        chosen = choose_pairs(bar, list(held_out.values()), text.seed, options.keeps)
        copies = int((chosen == COPY).sum())
        places = chosen
    written = {}
    for number, split in enumerate(["train", *held_out] if train else []):
        placed = zip(_full_pairs(train), places, strict=False)
        pairs = (pair for pair, place in placed if place == number)
        written[split] = write_pairs(folder, split, options.langs, pairs)
    return {
        "read": read,
        "empty": read - copies - sum(written.values()),
        "copies": copies,
        "held_out": sum(written.values()) - written.get("train", 0),
    }


def _full_pairs(train: Iterable[Files]) -> Iterator[tuple[str, str]]:
    """The training pairs that have text on both sides."""
    pairs = itertools.chain.from_iterable(itertools.starmap(read_pairs, train))
    return (pair for pair in pairs if pair[0].strip() and pair[1].strip())
