"""Raw parallel text to fairseq data, in three resumable steps.

``OUT/text`` holds tokens and the raw evaluation text, ``OUT/bpe`` subwords with their model,
``OUT/bin`` what ``fairseq-train`` reads (with ``preparation.json``, the subword model and the
raw evaluation text beside it). ``support/settings_record.py`` says when a step is made, skipped
or refused.
:func:`prepare` takes one raw file for each split and language; a corpus that comes in
another shape brings a :class:`TextStep` of its own to :func:`prepare_from`.
"""

from __future__ import annotations

import functools
import logging
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fairseq_cgc.inference.text.lines import (
    LineFunction,
    check_workers,
    map_lines,
    read_lines,
    write_lines,
)
from fairseq_cgc.inference.text.pipeline import TextPipeline
from fairseq_cgc.inference.text.subwords import MODEL_FILES, Subwords, learn
from fairseq_cgc.mt.prepare.binarize import binarize, check_path, dictionary_size
from fairseq_cgc.mt.prepare.corpora import MAX_TOKEN_CHARACTERS, check_pairs, keep_pair, read_pairs
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import new_file, sha256_of
from fairseq_cgc.support.options import demand
from fairseq_cgc.support.settings_record import is_done, make_step, only_process_in, read_counts

logger = logging.getLogger(__name__)

#: Split -> language -> file with the raw text.
RawText = Mapping[str, Mapping[str, Path]]

#: Options that no command has: a recipe sets them, and ``like`` takes them over.
OF_A_RECIPE = ("lowercase_last", "straight_apostrophes", "strict_tokenizer")

_SPLIT = re.compile(r"train|valid|valid[1-9]\d*|test|test[1-9]\d*")


@dataclass(frozen=True)
class PrepareOptions:
    """What decides the result of a preparation, except ``workers``, which only shortens it."""

    source_lang: str
    target_lang: str
    tokenizer: str = "moses"
    normalize: bool = True
    lowercase: bool = True
    subwords: str = "subword_nmt"
    bpe_size: int = 10000
    joined_dictionary: bool = True
    max_tokens: int = 250
    max_ratio: float | None = None
    lowercase_last: bool = False
    straight_apostrophes: bool = False
    strict_tokenizer: bool = False
    like: Path | None = None
    """A prepared data folder whose subword model and dictionaries are used: nothing is learnt."""
    workers: int = 1

    def pipeline(self, raw: dict[str, dict[str, str]] | None = None) -> TextPipeline:
        """The description that goes into the data folder."""
        return TextPipeline(
            source_lang=self.source_lang,
            target_lang=self.target_lang,
            tokenizer=self.tokenizer,
            normalize=self.normalize,
            lowercase=self.lowercase,
            subwords=self.subwords,
            subword_model=MODEL_FILES[self.subwords],
            joined_dictionary=self.joined_dictionary,
            lowercase_last=self.lowercase_last,
            straight_apostrophes=self.straight_apostrophes,
            strict_tokenizer=self.strict_tokenizer,
            raw=raw or {},
        )

    def check(self) -> None:
        """Raise UserError for a value that cannot be right."""
        if self.source_lang == self.target_lang:
            raise UserError(
                f"--source-lang and --target-lang are both {self.source_lang}, but must differ"
            )
        check_workers(self.workers)
        for option in ("bpe_size", "max_tokens"):
            demand(self, option, getattr(self, option) >= 1, "positive")
        if self.max_ratio is not None and not self.max_ratio >= 1:
            raise UserError(f"--max-ratio is {self.max_ratio}, but must be at least 1")
        if self.subwords not in MODEL_FILES:
            raise UserError(f"subwords is {self.subwords}, but must be {' or '.join(MODEL_FILES)}")
        self.pipeline()  # checks the rest


@dataclass(frozen=True)
class Prepared:
    """Where the data is and how much of it there is."""

    data_dir: Path
    pairs: dict[str, int]
    """Split -> pairs in the data folder."""
    dropped: int
    """Training pairs that cleaning left out."""
    dictionary_sizes: dict[str, int]
    """Language -> entries, with fairseq's 4 special symbols."""


@dataclass(frozen=True)
class TextStep:
    """How ``OUT/text`` is made from a corpus."""

    settings: Mapping[str, Any]
    """Everything that the tokens depend on, as JSON values."""
    splits: Sequence[str]
    """``train``, ``valid``, ``test``, ... in the order in which fairseq numbers them."""
    make: Callable[[Path], dict[str, Any]]
    """Writes tokens as ``SPLIT.LANG``, and the raw text of all splits but ``train`` as
    ``raw/SPLIT.LANG``, into a folder; returns ``pairs`` (split -> number) and ``dropped``."""


def prepare(raw: RawText, out: Path, options: PrepareOptions) -> Prepared:
    """Make ``out/text``, ``out/bpe`` and ``out/bin``, or what is missing of them.

    Args:
        raw: splits ``train``, ``valid`` and any number of ``valid1``, ..., ``test``, ``test1``,
            ..., each with a file for both languages. With ``options.like``, ``train`` and
            ``valid`` may be missing.
        out: folder to work in; made if needed.
        options: see :class:`PrepareOptions`.

    Raises:
        UserError: wrong options or corpora (nothing is written then); a folder of ``out`` that
            was made otherwise.
    """
    options.check()
    langs = (options.source_lang, options.target_lang)
    splits = _ordered_splits(raw, langs, least=0 if options.like else 1)
    settings = {
        "source_lang": options.source_lang,
        "target_lang": options.target_lang,
        "tokenizer": options.tokenizer,
        "normalize": options.normalize,
        "lowercase": options.lowercase,
        "max_tokens": options.max_tokens,
        **({} if options.max_ratio is None else {"max_ratio": options.max_ratio}),
        **{name: True for name in OF_A_RECIPE if getattr(options, name)},
        **{f"{s}.{lang} (SHA-256)": sha256_of(raw[s][lang]) for s in splits for lang in langs},
    }
    make = functools.partial(_make_text, raw, splits, langs, options)
    return prepare_from(TextStep(settings, splits, make), out, options)


def prepare_from(text: TextStep, out: Path, options: PrepareOptions) -> Prepared:
    """As :func:`prepare`, with the given first step.

    Raises:
        UserError: as :func:`prepare`, and whatever the first step raises; a path that fairseq
            cannot read.
    """
    options.check()
    check_path(out)
    langs = (options.source_lang, options.target_lang)
    bpe = {**text.settings, "subwords": options.subwords}
    if options.like is None:
        bpe["bpe_size"] = options.bpe_size
    else:
        bpe["subword model (SHA-256)"] = sha256_of(_subword_model(options.like))
    data = {**bpe, "joined_dictionary": options.joined_dictionary}
    if options.like is not None:
        names = [f"dict.{lang}.txt" for lang in langs]
        data |= {f"{name} (SHA-256)": sha256_of(options.like / name) for name in names}
    settings = {"text": text.settings, "bpe": bpe, "bin": data}
    folders = {step: out / step for step in settings}
    makers: dict[str, Callable[[Path], dict[str, Any]]] = {
        "text": text.make,
        "bpe": functools.partial(_make_bpe, folders["text"], text.splits, langs, options),
        "bin": functools.partial(_make_bin, folders, text.splits, langs, options),
    }
    with only_process_in(out):
        # Refuse before the first long step, not after it.
        done = {step: is_done(folders[step], settings[step]) for step in settings}
        for step in settings:
            if not done[step]:
                make_step(folders[step], settings[step], makers[step])
    counts = read_counts(folders["text"])
    return Prepared(
        data_dir=folders["bin"],
        pairs=counts["pairs"],
        dropped=counts["dropped"],
        dictionary_sizes={lang: dictionary_size(folders["bin"], lang) for lang in langs},
    )


def _subword_model(data_dir: Path) -> Path:
    pipeline = TextPipeline.load(data_dir)
    return pipeline.file(pipeline.subword_model)


def _ordered_splits(raw: RawText, langs: tuple[str, str], least: int) -> list[str]:
    """The splits in fairseq's order, checked to be complete and numbered without gaps."""
    for split in raw:
        if not _SPLIT.fullmatch(split):
            raise UserError(f"split {split!r} must be train, valid, valid1, ..., test, test1, ...")
        for lang in langs:
            if lang not in raw[split]:
                raise UserError(f"split {split} has no text in {lang}")
    splits = []
    for kind, needed in (("train", least), ("valid", least), ("test", 0)):
        found = {split for split in raw if split.startswith(kind)}
        expected = [f"{kind}{number or ''}" for number in range(max(len(found), needed))]
        if found != set(expected):
            raise UserError(f"splits are {sorted(raw)}, but must include {', '.join(expected)}")
        splits += expected
    return splits


def _make_text(
    raw: RawText, splits: list[str], langs: tuple[str, str], options: PrepareOptions, folder: Path
) -> dict[str, Any]:
    source, target = langs
    pairs = {}
    for split in splits:
        train = split == "train"
        pairs[split] = check_pairs(raw[split][source], raw[split][target], allow_empty=train)
    pipeline = options.pipeline()
    for split in splits:
        for lang in langs:
            lines = pipeline.tokenize(read_lines(raw[split][lang]), lang, options.workers)
            bar = tqdm(lines, total=pairs[split], desc=f"tokenise {split}.{lang}", unit="line")
            write_lines(folder / f"{split}.{lang}", bar)
            if split != "train":
                write_lines(folder / "raw" / f"{split}.{lang}", read_lines(raw[split][lang]))
    if "train" not in splits:
        return {"pairs": pairs, "dropped": 0}
    max_tokens, max_ratio = options.max_tokens, options.max_ratio
    kept = _clean(folder / f"train.{source}", folder / f"train.{target}", max_tokens, max_ratio)
    dropped, pairs["train"] = pairs["train"] - kept, kept
    ratio = "" if max_ratio is None else f", one {max_ratio:g} times as long as the other"
    if not kept:
        raise UserError(
            f"{raw['train'][source]}: no training pair has 1 to {max_tokens} tokens on both sides "
            f"(--max-tokens{'' if max_ratio is None else f'; --max-ratio {max_ratio:g}'})"
        )
    logger.info(
        "train: %d pairs kept, %d dropped (a side empty, of more than %d tokens%s, or with a token "
        "of more than %d characters)", kept, dropped, max_tokens, ratio, MAX_TOKEN_CHARACTERS,
    )  # fmt: skip
    return {"pairs": pairs, "dropped": dropped}


def _clean(source: Path, target: Path, max_tokens: int, max_ratio: float | None) -> int:
    """Keep the usable pairs of two files, in place, and return their number."""
    kept = 0
    with (
        new_file(source) as new_source,
        new_file(target) as new_target,
        new_source.open("w", encoding="utf-8", newline="\n") as source_stream,
        new_target.open("w", encoding="utf-8", newline="\n") as target_stream,
    ):
        for source_line, target_line in read_pairs(source, target):
            if keep_pair(source_line, target_line, max_tokens, max_ratio):
                source_stream.write(source_line + "\n")
                target_stream.write(target_line + "\n")
                kept += 1
    return kept


def _make_bpe(
    text: Path, splits: Sequence[str], langs: tuple[str, str], options: PrepareOptions, folder: Path
) -> dict[str, Any]:
    model = folder / MODEL_FILES[options.subwords]
    if options.like is not None:
        shutil.copyfile(_subword_model(options.like), model)
    else:
        # Source and target sorted: both directions of a language pair share one model.
        train = [text / f"train.{lang}" for lang in sorted(langs)]
        learn(options.subwords, train, options.bpe_size, model)
    for split in splits:
        for lang in langs:
            make = functools.partial(_splitter, model)
            lines = map_lines(make, read_lines(text / f"{split}.{lang}"), options.workers)
            write_lines(
                folder / f"{split}.{lang}", tqdm(lines, desc=f"split {split}.{lang}", unit="line")
            )
    return {}


def _splitter(model: Path) -> LineFunction:
    return Subwords.load(model).encode


def _make_bin(
    folders: Mapping[str, Path],
    splits: Sequence[str],
    langs: tuple[str, str],
    options: PrepareOptions,
    folder: Path,
) -> dict[str, Any]:
    binarize(
        folders["bpe"],
        folder,
        splits,
        *langs,
        joined_dictionary=options.joined_dictionary,
        dictionaries=options.like,
        workers=options.workers,
        log=folder.parent / "preprocess.log",
    )
    model = MODEL_FILES[options.subwords]
    shutil.copyfile(folders["bpe"] / model, folder / model)
    shutil.copytree(folders["text"] / "raw", folder / "raw")
    evaluation = [split for split in splits if split != "train"]
    names = {split: {lang: f"raw/{split}.{lang}" for lang in langs} for split in evaluation}
    options.pipeline(names).save(folder)
    return {"pairs": read_counts(folders["text"])["pairs"]}
