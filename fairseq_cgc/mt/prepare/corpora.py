"""Reading, checking and writing parallel text.

A corpus here is one file a language, one sentence a line, UTF-8, plain or gzip. Only the
newline byte ends a line: Unicode's other separators, which ``str.splitlines`` and Python's
text mode obey, are ordinary characters, so that both sides always stay aligned.
"""

from __future__ import annotations

import itertools
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from fairseq_cgc.inference.text.lines import read_lines
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import new_file, sha256_of

#: Longer "words" are debris (a file without spaces, encoded data), and splitting one into
#: subwords takes time quadratic in its length.
MAX_TOKEN_CHARACTERS = 1000

_BLOCK = 1 << 20  # bytes read at a time


def read_pairs(source: Path, target: Path) -> Iterator[tuple[str, str]]:
    """Yield the sentence pairs of two files.

    Raises:
        UserError: as :func:`read_lines`, and, after the last whole pair, if the files have not
            the same number of lines.
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

    Args:
        source: source-language file.
        target: target-language file.
        allow_empty: whether lines without text are accepted (training text, where such pairs
            are dropped later). In evaluation text they are an error, since dropping a pair
            would change the test set.

    Raises:
        UserError: as :func:`read_pairs`; for no lines at all; for an empty line.
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
        path: file to write. Without a checksum an existing file is taken for the right one.
        sha256: checksum that the file must have, if one is known.

    Raises:
        UserError: if the address cannot be read, the connection broke off, or what came differs
            from ``sha256``; no file is left then.
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
