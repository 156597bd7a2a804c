"""From subword text to fairseq's binary format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fairseq_cgc.mt.fairseq_commands import run_fairseq
from fairseq_cgc.support.errors import UserError


def binarize(
    text_dir: Path,
    data_dir: Path,
    splits: Sequence[str],
    source_lang: str,
    target_lang: str,
    *,
    joined_dictionary: bool,
    log: Path,
    dictionaries: Path | None = None,
    workers: int = 1,
    only_dictionaries: bool = False,
) -> None:
    """Run ``fairseq-preprocess`` on the files ``text_dir/SPLIT.LANG``.

    Args:
        text_dir: folder with the subword text.
        data_dir: an empty folder, which the caller renames when everything is in it.
        splits: ``train``, ``valid``, ``test``, ``test1`` ... in fairseq's order.
        source_lang: source language, the ending of its files.
        target_lang: target language.
        joined_dictionary: one dictionary for both languages.
        log: file for fairseq's output.
        dictionaries: a folder whose ``dict.LANG.txt`` are used instead of building new ones.
        workers: processes; they do not change the result.
        only_dictionaries: write the dictionaries and no data.

    Raises:
        UserError: if fairseq-preprocess fails.
    """
    check_path(text_dir)
    arguments: list[str | Path] = [
        "--source-lang", source_lang, "--target-lang", target_lang,
        "--destdir", data_dir, "--workers", str(workers),
    ]  # fmt: skip
    for kind in ("train", "valid", "test"):
        prefixes = [str(text_dir / split) for split in splits if split.startswith(kind)]
        if prefixes:
            arguments += [f"--{kind}pref", ",".join(prefixes)]
    if dictionaries is not None:
        arguments += ["--srcdict", dictionaries / f"dict.{source_lang}.txt"]
        arguments += ["--tgtdict", dictionaries / f"dict.{target_lang}.txt"]
    elif joined_dictionary:
        arguments.append("--joined-dictionary")
    if only_dictionaries:
        arguments.append("--dict-only")
    run_fairseq("preprocess", arguments, log=log)


def check_path(path: Path) -> None:
    """Raise UserError for a path that fairseq does not take literally."""
    split = "by which fairseq separates paths"
    for part, why in {",": split, os.pathsep: split, "${": "which fairseq replaces"}.items():
        if part in str(path):
            raise UserError(f"{path} must not contain {part!r}, {why}")


def dictionary_size(data_dir: Path, lang: str) -> int:
    """Entries of a language's dictionary, with fairseq's 4 special symbols."""
    with (data_dir / f"dict.{lang}.txt").open("rb") as stream:
        return sum(1 for _ in stream) + 4
