"""Reading, checking, writing and downloading parallel text.

A corpus is one file for each language, in the form that :mod:`fairseq_cgc.inference.text.lines`
describes.
"""

from __future__ import annotations

import contextlib
import itertools
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from fairseq_cgc.inference.text.lines import read_lines
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import new_file, sha256_of

#: A longer "word" is not text (a file without spaces, encoded data), and splitting it into subwords
#: takes time quadratic in its length.
MAX_TOKEN_CHARACTERS = 1000

_BLOCK = 1 << 20  # bytes read at a time


def read_pairs(source: Path, target: Path) -> Iterator[tuple[str, str]]:
    """Yield the sentence pairs of two files.

    Raises:
        UserError: as :func:`read_lines`, and, after the last whole pair, if the numbers of lines
            differ.
    """
    counts = [0, 0]
    for pair in itertools.zip_longest(read_lines(source), read_lines(target)):
        source_line, target_line = pair
        if source_line is not None and target_line is not None:
            yield source_line, target_line
        counts = [count + (line is not None) for count, line in zip(counts, pair, strict=True)]
    if counts[0] != counts[1]:
        raise UserError(
            f"{source} has {counts[0]} lines, but {target} has {counts[1]}; "
            "parallel files need the same number"
        )


def check_pairs(source: Path, target: Path, *, allow_empty: bool) -> int:
    """Read both files to their end and return the number of pairs.

    ``allow_empty`` accepts lines without text, for training text, whose empty pairs are dropped
    later. Dropping a pair of evaluation text would change the test set.

    Raises:
        UserError: as :func:`read_pairs`; if there are no lines; for an empty line.
    """
    number = 0
    for number, pair in enumerate(read_pairs(source, target), start=1):
        if not allow_empty:
            for path, line in zip((source, target), pair, strict=True):
                if not line.strip():
                    raise UserError(
                        f"{path}, line {number}: empty line; evaluation text must have none"
                    )
    if number == 0:
        raise UserError(f"{source}: no lines")
    return number


def write_pairs(
    folder: Path, split: str, langs: Sequence[str], pairs: Iterable[Sequence[str]]
) -> int:
    """Write ``folder/SPLIT.LANG`` for both languages, each all or nothing; return the number.

    The pairs may be read from the same files, which are replaced at the end.
    """
    count = 0
    with contextlib.ExitStack() as stack:
        streams = []
        for lang in langs:
            partial = stack.enter_context(new_file(folder / f"{split}.{lang}"))
            opened = partial.open("w", encoding="utf-8", newline="\n")
            streams.append(stack.enter_context(opened))
        for pair in pairs:
            count += 1
            for stream, line in zip(streams, pair, strict=True):
                stream.write(line + "\n")
    return count


def keep_pair(source: str, target: str, max_tokens: int, max_ratio: float | None = None) -> bool:
    """Whether a training pair is fit for use, by the measures of Moses' clean-corpus.

    Both sides need 1 to ``max_tokens`` tokens (between spaces), none of more than
    :data:`MAX_TOKEN_CHARACTERS` characters, and neither side more than ``max_ratio`` times as
    many as the other.
    """
    sides = (source.split(), target.split())
    shorter, longer = sorted(map(len, sides))
    if not 1 <= shorter <= longer <= max_tokens:
        return False
    if max_ratio is not None and longer / shorter > max_ratio:
        return False
    return all(max(map(len, tokens)) <= MAX_TOKEN_CHARACTERS for tokens in sides)


def download(url: str, path: Path, sha256: str | None) -> Path:
    """Fetch ``url`` into ``path``, all or nothing, unless that was done before.

    Args:
        url: address.
        path: file to write. Without a checksum, an existing file is taken for the right one.
        sha256: checksum of the file, if one is known.

    Raises:
        UserError: if the address cannot be read, the connection breaks off, or the checksum
            differs; no file is left then.
    """
    if path.exists() and sha256 in (None, sha256_of(path)):
        return path
    with new_file(path) as partial:
        received = 0
        try:
            with urllib.request.urlopen(url, timeout=60) as reply, partial.open("wb") as stream:
                size = int(reply.headers.get("Content-Length") or 0) or None
                with tqdm(total=size, unit="B", unit_scale=True, desc=path.name) as bar:
                    while block := reply.read(_BLOCK):
                        stream.write(block)
                        bar.update(len(block))
                        received += len(block)
        except (OSError, HTTPException) as error:
            raise UserError(f"{url}: download failed ({error})") from error
        if size not in (None, received):
            raise UserError(
                f"{url}: download failed (it broke off after {received} of {size} bytes)"
            )
        if sha256 is not None and (found := sha256_of(partial)) != sha256:
            raise UserError(f"{url}: SHA-256 is {found}, expected {sha256}; the file was not kept")
    return path
