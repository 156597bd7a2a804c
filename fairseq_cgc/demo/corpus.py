"""Distinct sentence pairs, and the files of a corpus with train, valid and test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fairseq_cgc.demo.grammar import Pair
from fairseq_cgc.demo.sentences import SentenceSampler
from fairseq_cgc.inference.text.lines import write_lines
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.settings_record import is_done, make_step

LANGS = ("de", "en")
#: The grammar gives many more sentences, but beyond this number most short ones are repetitions.
MAX_PAIRS = 200_000
#: Part of a corpus's settings, so that a corpus from another version of the grammar is refused.
_GRAMMAR_VERSION = 1


def generate_pairs(number: int, seed: int) -> Iterator[Pair]:
    """Yield ``number`` distinct pairs; no German and no English sentence comes twice.

    The same seed gives the same pairs on every platform and Python; a larger ``number`` only
    adds pairs at the end. The German sentence determines the English one.

    Raises:
        UserError: (before the first pair) if ``number`` is not 1 to :data:`MAX_PAIRS`.
    """
    if not 1 <= number <= MAX_PAIRS:
        raise UserError(f"number of pairs is {number}, but must be 1 to {MAX_PAIRS}")
    return itertools.islice(_distinct_pairs(seed), number)


def _distinct_pairs(seed: int) -> Iterator[Pair]:
    sampler = SentenceSampler(seed)
    seen: set[str] = set()  # of both languages: they have no sentence in common
    while True:
        pair = sampler.sample()
        if seen.isdisjoint(pair):
            seen.update(pair)
            yield pair


def write_corpus(out: Path, *, train: int, valid: int, test: int, seed: int) -> None:
    """Make the folder ``out`` with ``train.de``, ``train.en``, ``valid.de``, ..., ``test.en``.

    ``train``, ``valid`` and ``test`` are numbers of pairs. No sentence of either language is in
    two splits. The folder appears when it is complete; if it was made with the same settings
    before, nothing is done. Test and valid are drawn first, so that corpora that differ only in
    ``train`` share them.

    Raises:
        UserError: if a size is not positive, or the sizes add up to more than :data:`MAX_PAIRS`;
            if ``out`` is a file, or a folder with something else in it.
    """
    sizes = {"test": test, "valid": valid, "train": train}
    for split, size in sizes.items():
        if size < 1:
            raise UserError(f"--{split} is {size}, but must be positive")
    total = sum(sizes.values())
    if total > MAX_PAIRS:
        raise UserError(
            f"--train, --valid and --test are {total} pairs together, but the demo grammar gives "
            f"at most {MAX_PAIRS}"
        )
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, but must be a folder (or not exist yet)")
    settings = {**sizes, "seed": seed, "grammar_version": _GRAMMAR_VERSION}
    if out.exists() and not any(out.iterdir()):
        try:
            out.rmdir()
        except OSError as error:  # the working folder, or where a disk is mounted
            raise UserError(
                f"{out} cannot be replaced ({error.strerror}); give a folder that does not exist"
            ) from error
    if is_done(out, settings):
        return

    def make(folder: Path) -> dict[str, Any]:
        bar = tqdm(generate_pairs(total, seed), total=total, desc=out.name, unit="pair")
        pairs = iter(list(bar))
        for split, size in sizes.items():
            texts = zip(*itertools.islice(pairs, size), strict=True)
            for lang, lines in zip(LANGS, texts, strict=True):
                write_lines(folder / f"{split}.{lang}", lines)
        return dict(sizes)

    make_step(out, settings, make)
