"""Text that was released already tokenised and split into subwords, to fairseq data."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

from fairseq_cgc.inference.text.lines import read_lines, write_lines
from fairseq_cgc.inference.text.pipeline import TextPipeline
from fairseq_cgc.inference.text.subwords import MODEL_FILES
from fairseq_cgc.mt.prepare.binarize import binarize
from fairseq_cgc.mt.prepare.corpora import check_pairs
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import sha256_of
from fairseq_cgc.support.settings_record import is_done, make_step

_CODE = MODEL_FILES["subword_nmt"]


def is_released_multi30k(folder: Path) -> bool:
    """Whether a folder holds the released text, not yet binarised data."""
    return (folder / "train.en").is_file() and not (folder / "dict.en.txt").is_file()


def binarize_multi30k(folder: Path, data_dir: Path, source_lang: str, target_lang: str) -> None:
    """Make ``data_dir`` out of Multi30k as released with "Good for Misconceived Reasons".

    The release has lower-cased, normalised Moses tokens and 10,000 joint BPE merges; the
    dictionary is joined. Made once; a folder made from other text is refused.

    Args:
        folder: with ``train``, ``valid`` and ``test.2016`` as ``NAME.LANG``, any other
            ``test.NAME.LANG`` (which become ``test1``, ...), and ``code``.
        data_dir: folder to make.
        source_lang: language to translate from.
        target_lang: language to translate into.

    Raises:
        UserError: if files are missing or do not fit together, or ``data_dir`` is of others.
    """
    langs = (source_lang, target_lang)
    first = "test.2016"
    found = {path.name.removesuffix(f".{source_lang}") for path in folder.glob("test.*.*")}
    others = sorted(n for n in found if (folder / f"{n}.{source_lang}").is_file() and n != first)
    tests = {f"test{number or ''}": name for number, name in enumerate([first, *others])}
    names = {"train": "train", "valid": "valid", **tests}
    files = {(s, lang): folder / f"{names[s]}.{lang}" for s in names for lang in langs}
    for path in (*files.values(), folder / _CODE):
        if not path.is_file():
            raise UserError(f"{folder} has no {path.name}: not Multi30k as released with BPE")
    settings = {
        "source_lang": source_lang,
        "target_lang": target_lang,
        **{f"{path.name} (SHA-256)": sha256_of(path) for path in (*files.values(), folder / _CODE)},
    }
    if not is_done(data_dir, settings):
        log = data_dir.with_name("preprocess.log")
        make_step(data_dir, settings, functools.partial(_make, folder, names, langs, log))


def write_dictionaries(folder: Path, data_dir: Path, source_lang: str, target_lang: str) -> None:
    """The dictionaries that :func:`binarize_multi30k` would write, without the data.

    Args:
        folder: the released text; ``train.LANG`` is read.
        data_dir: folder to make.
        source_lang: language to translate from.
        target_lang: language to translate into.
    """
    log = data_dir.with_name("preprocess.log")
    binarize(
        folder, data_dir, ["train"], source_lang, target_lang,
        joined_dictionary=True, log=log, only_dictionaries=True,
    )  # fmt: skip


def _make(
    folder: Path, names: dict[str, str], langs: tuple[str, str], log: Path, data_dir: Path
) -> dict[str, Any]:
    pairs = {}
    text = data_dir / "text"
    for split, name in names.items():
        sides = [folder / f"{name}.{lang}" for lang in langs]
        pairs[split] = check_pairs(*sides, allow_empty=split == "train")
        for lang, path in zip(langs, sides, strict=True):
            write_lines(text / f"{split}.{lang}", read_lines(path))
    binarize(text, data_dir, list(names), *langs, joined_dictionary=True, log=log)
    shutil.rmtree(text)
    shutil.copyfile(folder / _CODE, data_dir / _CODE)
    TextPipeline(
        source_lang=langs[0],
        target_lang=langs[1],
        tokenizer="moses",
        normalize=True,
        lowercase=True,
        subwords="subword_nmt",
        subword_model=_CODE,
        joined_dictionary=True,
    ).save(data_dir)
    return {"pairs": pairs}
