"""Multi30k as released with "Good for Misconceived Reasons", already tokenised, to fairseq data."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

from fairseq_cgc.inference.text.subwords import MODEL_FILES
from fairseq_cgc.mt.prepare.binarize import binarize
from fairseq_cgc.mt.prepare.corpora import check_pairs, read_pairs, write_pairs
from fairseq_cgc.mt.prepare.options import PrepareOptions
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import sha256_of
from fairseq_cgc.support.settings_record import is_done, make_step

_CODE = MODEL_FILES["subword_nmt"]


def is_released_multi30k(folder: Path) -> bool:
    """Whether a folder holds the released text, not yet binarised data."""
    return (folder / "train.en").is_file() and not (folder / "dict.en.txt").is_file()


def binarize_multi30k(folder: Path, data_dir: Path, source_lang: str, target_lang: str) -> None:
    """Make ``data_dir`` out of the release, which is tokenised and split into subwords already.

    The release has lower-cased, normalised Moses tokens and 10,000 joint BPE merges; the
    dictionary is joined. Made once; a folder made from other text is refused.

    Args:
        folder: with ``train``, ``valid`` and ``test.2016`` as ``NAME.LANG``, any other
            ``test.NAME.LANG`` (which become ``test1``, ...), and ``code``.
        data_dir: folder to make.
        source_lang, target_lang: the direction to prepare.

    Raises:
        UserError: if files are missing or do not fit together, or ``data_dir`` is of others.
    """
    langs = (source_lang, target_lang)
    names = {"train": "train", "valid": "valid", "test": "test.2016"}
    found = {path.name.removesuffix(f".{source_lang}") for path in folder.glob("test.*.*")}
    others = sorted(name for name in found if (folder / f"{name}.{source_lang}").is_file())
    others = [name for name in others if name not in names.values()]
    names |= {f"test{number}": name for number, name in enumerate(others, start=1)}
    files = [folder / f"{name}.{lang}" for name in names.values() for lang in langs]
    files.append(folder / _CODE)
    for path in files:
        if not path.is_file():
            raise UserError(f"{folder} has no {path.name}: not Multi30k as released with BPE")
    settings = {
        "source_lang": source_lang,
        "target_lang": target_lang,
        **{f"{path.name} (SHA-256)": sha256_of(path) for path in files},
    }
    if not is_done(data_dir, settings):
        make_step(data_dir, settings, functools.partial(_make, folder, names, langs))


def write_dictionaries(folder: Path, data_dir: Path, source_lang: str, target_lang: str) -> None:
    """The dictionaries that :func:`binarize_multi30k` would write, without the data."""
    binarize(
        folder, data_dir, ["train"], source_lang, target_lang, joined_dictionary=True,
        log=data_dir.with_name("preprocess.log"), only_dictionaries=True,
    )  # fmt: skip


def _make(
    folder: Path, names: dict[str, str], langs: tuple[str, str], data_dir: Path
) -> dict[str, Any]:
    pairs = {}
    text = data_dir / "text"
    for split, name in names.items():
        sides = [folder / f"{name}.{lang}" for lang in langs]
        pairs[split] = check_pairs(*sides, allow_empty=split == "train")
        write_pairs(text, split, langs, read_pairs(*sides))
    log = data_dir.with_name("preprocess.log")
    binarize(text, data_dir, list(names), *langs, joined_dictionary=True, log=log)
    shutil.rmtree(text)
    shutil.copyfile(folder / _CODE, data_dir / _CODE)
    PrepareOptions(*langs).pipeline().save(data_dir)
    return {"pairs": pairs}
