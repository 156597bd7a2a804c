"""Choosing the pairs of a corpus that are held out from training."""

from __future__ import annotations

import random
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

import numpy as np
import regex

from fairseq_cgc.support.errors import UserError

#: Places of a training pair; the sets that are held out are numbered from 1.
TRAIN, COPY = 0, -1

#: Sentences that differ only in these characters count as the same.
_IGNORED = regex.compile(r"[\p{P}\p{Z}\p{C}\p{Sk}\s]+")


def choose_pairs(
    pairs: Iterable[tuple[str, str]],
    numbers: Sequence[int],
    seed: int,
    fits: Callable[[str, str], bool],
) -> np.ndarray:
    """Choose pairs to hold out, so that none of their sentences is left in the other pairs.

    Needs about 140 bytes of memory for each pair.

    Args:
        pairs: training text.
        numbers: how many pairs to hold out for each set.
        seed: decides the choice, for the same text and numbers.
        fits: whether a pair may be held out.

    Returns:
        For each pair :data:`TRAIN` (it stays), :data:`COPY` (it is dropped, as the copy of a
        held-out pair), or the number of its set, from 1.

    Raises:
        UserError: if there are too few such pairs, or none would be left for training.
    """
    hashes, fit = array("Q"), bytearray()
    for source, target in pairs:
        hashes.extend((_hash(source), _hash(target)))
        fit.append(fits(source, target))
    sides = np.frombuffer(hashes, np.uint64).reshape(-1, 2)
    # A group is all copies of one pair.
    _, first, group = np.unique(sides, axis=0, return_index=True, return_inverse=True)
    group = group.reshape(-1)  # numpy 2.0.0 gives another shape
    possible = np.frombuffer(fit, np.bool_)[first]
    for side in sides[first].T:
        _, sentence, groups = np.unique(side, return_inverse=True, return_counts=True)
        possible &= groups[sentence] == 1
    candidates = np.flatnonzero(possible)
    candidates = candidates[np.argsort(first[candidates])]

    wanted = sum(numbers)
    if wanted > len(candidates) or wanted >= len(first):
        most = min(len(candidates), max(len(first) - 1, 0))
        raise UserError(
            f"--valid and --test hold out {wanted} pairs, but must hold out at most {most}: of "
            f"{len(fit)} training pairs, those within the limits of length whose sentences occur "
            "in no other pair, and one must be left"
        )
    split_of_group = np.zeros(len(first), np.int32)
    chosen = random.Random(seed).sample(range(len(candidates)), wanted)
    split_numbers = np.repeat(np.arange(1, len(numbers) + 1), numbers)
    split_of_group[candidates[chosen]] = split_numbers
    places = split_of_group[group]
    places[(places != TRAIN) & (first[group] != np.arange(len(group)))] = COPY
    return places


def _hash(sentence: str) -> int:
    letters = unicodedata.normalize("NFKC", sentence).casefold()
    letters = _IGNORED.sub("", letters) or letters.strip()
    return int.from_bytes(blake2b(letters.encode(), digest_size=8).digest())
