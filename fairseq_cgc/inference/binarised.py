"""Binarised text of ``fairseq-preprocess``, read without fairseq."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fairseq_cgc.support.errors import UserError

_MAGIC = b"MMIDIDX\x00\x00" + (1).to_bytes(8, "little")
_DTYPES = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 8: np.uint16}


def language_pair_of(data_dir: Path) -> tuple[str, str] | None:
    """The languages in the names of a folder's binarised files, the source first."""
    for path in sorted(data_dir.glob("*.*-*.*.bin")):
        languages = path.name.split(".")[1].split("-")
        if len(languages) == 2:
            return languages[0], languages[1]
    return None


def split_files(data_dir: Path, split: str, language_pair: tuple[str, str]) -> list[Path]:
    """The binarised files of a split, the source's first; the target's may be missing.

    Raises:
        UserError: if there is no such split; the message names those that exist.
    """
    source, target = language_pair
    for pair in (f"{source}-{target}", f"{target}-{source}"):
        if (data_dir / f"{split}.{pair}.{source}.bin").exists():
            sides = [data_dir / f"{split}.{pair}.{lang}.bin" for lang in language_pair]
            return [path for path in sides if path.exists()]
    present = sorted(path.name.split(".")[0] for path in data_dir.glob(f"*.*-*.{source}.bin"))
    raise UserError(
        f"{data_dir} has no split {split!r} for {source} to {target}; "
        f"it has {', '.join(present) or 'none'}"
    )


def read_sentences(binary: Path) -> list[Tensor]:
    """The sentences of a file, as the numbers of their types with the end of the sentence.

    Raises:
        UserError: if the file or its index is missing, truncated, or of another format than
            ``fairseq-preprocess --dataset-impl mmap``, the default.
    """
    index = binary.with_suffix(".idx")
    try:
        head = index.read_bytes()
        words = np.fromfile(binary, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"{index}: cannot be read ({error.strerror or error})") from error
    place = len(_MAGIC)
    if not head.startswith(_MAGIC) or len(head) < place + 9 or head[place] not in _DTYPES:
        raise UserError(f"{index}: not an index of fairseq-preprocess --dataset-impl mmap")
    dtype = np.dtype(_DTYPES[head[place]])
    count = int.from_bytes(head[place + 1 : place + 9], "little")
    place += 9
    if len(head) != place + 12 * count:
        raise UserError(f"{index}: damaged (not as long as its {count} sentences need)")
    sizes = np.frombuffer(head, "<i4", count, place).astype(np.int64)
    if (sizes < 0).any() or sizes.sum() * dtype.itemsize != len(words):
        raise UserError(f"{binary}: damaged (not as long as its index says)")
    numbers = torch.from_numpy(words.view(dtype).astype(np.int64))
    return list(numbers.split(sizes.tolist()))
