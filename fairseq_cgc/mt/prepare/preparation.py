"""Raw parallel text to fairseq data, in three resumable steps.

``OUT/text`` holds tokens and the raw evaluation text, ``OUT/bpe`` subwords with their model, and
``OUT/bin`` what ``fairseq-train`` reads (with ``preparation.json``, the subword model and the
raw evaluation text beside it). ``support/settings_record.py`` says when a step is made, skipped or
refused. :func:`prepare` takes one raw file for each split and language; a corpus in another form
brings its own :class:`TextStep` to :func:`prepare_from`.
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

from fairseq_cgc.inference.text.lines import LineFunction, map_lines, read_lines, write_lines
from fairseq_cgc.inference.text.pipeline import TextPipeline
from fairseq_cgc.inference.text.subwords import MODEL_FILES, Subwords, learn
from fairseq_cgc.mt.prepare.binarize import binarize, check_path, dictionary_size
from fairseq_cgc.mt.prepare.corpora import (
    MAX_TOKEN_CHARACTERS,
    check_pairs,
    read_pairs,
    write_pairs,
)
from fairseq_cgc.mt.prepare.options import OF_A_RECIPE, PrepareOptions
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import sha256_of
from fairseq_cgc.support.settings_record import is_done, make_step, only_process_in, read_counts

logger = logging.getLogger(__name__)

#: Split -> language -> file with the raw text.
RawText = Mapping[str, Mapping[str, Path]]

_SPLIT = re.compile(r"train|valid|valid[1-9]\d*|test|test[1-9]\d*")


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
    langs = options.langs
    splits = _ordered_splits(raw, langs, least=0 if options.like else 1)
    names = ("source_lang", "target_lang", "tokenizer", "normalize", "lowercase", "max_tokens")
    settings = {
        **{name: getattr(options, name) for name in names},
        **({} if options.max_ratio is None else {"max_ratio": options.max_ratio}),
        **{name: True for name in OF_A_RECIPE if getattr(options, name)},
        **{f"{s}.{lang} (SHA-256)": sha256_of(raw[s][lang]) for s in splits for lang in langs},
    }
    make = functools.partial(_make_text, raw, splits, options)
    return prepare_from(TextStep(settings, splits, make), out, options)


def prepare_from(text: TextStep, out: Path, options: PrepareOptions) -> Prepared:
    """As :func:`prepare`, with the given first step.

    Raises:
        UserError: as :func:`prepare`, and whatever the first step raises; a path that fairseq
            cannot read.
    """
    options.check()
    check_path(out)
    bpe = {**text.settings, "subwords": options.subwords}
    dictionaries = {}
    if options.like is None:
        bpe["bpe_size"] = options.bpe_size
    else:
        bpe["subword model (SHA-256)"] = sha256_of(_subword_model(options.like))
        names = [f"dict.{lang}.txt" for lang in options.langs]
        dictionaries = {f"{name} (SHA-256)": sha256_of(options.like / name) for name in names}
    data = {**bpe, "joined_dictionary": options.joined_dictionary, **dictionaries}
    settings = {"text": text.settings, "bpe": bpe, "bin": data}
    folders = {step: out / step for step in settings}
    makers: dict[str, Callable[[Path], dict[str, Any]]] = {
        "text": text.make,
        "bpe": functools.partial(_make_bpe, folders["text"], text.splits, options),
        "bin": functools.partial(_make_bin, folders, text.splits, options),
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
        dictionary_sizes={lang: dictionary_size(folders["bin"], lang) for lang in options.langs},
    )


def listed(counts: Mapping[str, int]) -> str:
    """Counts in one line: ``train 29000, valid 1014``."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())


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
    raw: RawText, splits: list[str], options: PrepareOptions, folder: Path
) -> dict[str, Any]:
    pairs = {}
    for split in splits:
        files = [raw[split][lang] for lang in options.langs]
        pairs[split] = check_pairs(*files, allow_empty=split == "train")
    pipeline = options.pipeline()
    for split in splits:
        for lang in options.langs:
            lines = pipeline.tokenize(read_lines(raw[split][lang]), lang, options.workers)
            bar = tqdm(lines, total=pairs[split], desc=f"tokenise {split}.{lang}", unit="line")
            write_lines(folder / f"{split}.{lang}", bar)
            if split != "train":
                write_lines(folder / "raw" / f"{split}.{lang}", read_lines(raw[split][lang]))
    dropped = 0
    if "train" in splits:
        files = [folder / f"train.{lang}" for lang in options.langs]
        fit = (pair for pair in read_pairs(*files) if options.keeps(*pair))
        kept = write_pairs(folder, "train", options.langs, fit)
        dropped, pairs["train"] = pairs["train"] - kept, kept
        log_cleaning(kept, dropped, options)
        if not kept:
            ratio = "" if options.max_ratio is None else f"; --max-ratio {options.max_ratio:g}"
            raise UserError(
                f"{raw['train'][options.source_lang]}: no training pair has 1 to "
                f"{options.max_tokens} tokens on both sides (--max-tokens{ratio})"
            )
    return {"pairs": pairs, "dropped": dropped}


def log_cleaning(kept: int, dropped: int, options: PrepareOptions) -> None:
    """Log how many training pairs were kept and dropped, and why they were dropped."""
    ratio = options.max_ratio
    logger.info(
        "train: %d pairs kept, %d dropped (a side empty, of more than %d tokens%s, or with a token "
        "of more than %d characters)",
        kept, dropped, options.max_tokens,
        "" if ratio is None else f", more than {ratio:g} times as long as the other",
        MAX_TOKEN_CHARACTERS,
    )  # fmt: skip


def _make_bpe(
    text: Path, splits: Sequence[str], options: PrepareOptions, folder: Path
) -> dict[str, Any]:
    model = folder / MODEL_FILES[options.subwords]
    if options.like is not None:
        shutil.copyfile(_subword_model(options.like), model)
    else:
        # Source and target sorted: both directions of a language pair share one model.
        train = [text / f"train.{lang}" for lang in sorted(options.langs)]
        learn(options.subwords, train, options.bpe_size, model)
    make = functools.partial(_splitter, model)
    for split in splits:
        for lang in options.langs:
            lines = map_lines(make, read_lines(text / f"{split}.{lang}"), options.workers)
            bar = tqdm(lines, desc=f"split {split}.{lang}", unit="line")
            write_lines(folder / f"{split}.{lang}", bar)
    return {}


def _splitter(model: Path) -> LineFunction:
    return Subwords.load(model).encode


def _make_bin(
    folders: Mapping[str, Path], splits: Sequence[str], options: PrepareOptions, folder: Path
) -> dict[str, Any]:
    binarize(
        folders["bpe"],
        folder,
        splits,
        *options.langs,
        joined_dictionary=options.joined_dictionary,
        dictionaries=options.like,
        workers=options.workers,
        log=folder.parent / "preprocess.log",
    )
    model = MODEL_FILES[options.subwords]
    shutil.copyfile(folders["bpe"] / model, folder / model)
    shutil.copytree(folders["text"] / "raw", folder / "raw")
    names = {
        split: {lang: f"raw/{split}.{lang}" for lang in options.langs}
        for split in splits
        if split != "train"
    }
    options.pipeline(names).save(folder)
    return {"pairs": read_counts(folders["text"])["pairs"]}
