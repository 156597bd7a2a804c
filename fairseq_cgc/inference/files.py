"""Translate a file into a file; an interrupted run continues where it stopped."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from fairseq_cgc.inference.text.lines import read_lines
from fairseq_cgc.inference.translator import Translator
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import file_stamps, new_file


def partial_file(output: Path, inputs: Iterable[Path], settings: object) -> Path:
    """Where unfinished output is kept.

    Its name depends on all that the result depends on, so that the output of another model is never
    continued.

    Args:
        output: the file to write in the end.
        inputs: checkpoint, data and text.
        settings: any object whose ``repr`` identifies the settings.
    """
    identity = json.dumps([file_stamps(inputs), repr(settings)])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    return output.with_name(f"{output.name}.{digest}.partial")


def translate_file(
    translator: Translator, text: Path, output: Path, partial: Path, *, buffer_size: int
) -> None:
    """Translate ``text`` into ``output``, continuing ``partial`` if it exists.

    Args:
        translator: the translator.
        text: a UTF-8 file, one sentence on each line.
        output: the file to write; it appears only when complete.
        partial: see :func:`partial_file`.
        buffer_size: the number of lines read ahead.

    Raises:
        UserError: if ``text`` is unreadable, or another process translates it into ``output``;
            the lines translated so far stay in ``partial``.
    """
    total = sum(1 for _ in read_lines(text))
    # Buffered by line, so that even a killed run leaves all that it has translated.
    with partial.open("a", encoding="utf-8", newline="\n", buffering=1) as stream:
        _only_process_writing(stream, output)
        done = _keep_complete_lines(partial)
        lines = itertools.islice(read_lines(text), done, None)
        translations = translator.translate(lines, buffer_size=buffer_size, first_line=done + 1)
        for line in tqdm(translations, desc="translating", initial=done, total=total, unit="line"):
            stream.write(line + "\n")
        os.fsync(stream.fileno())
        partial.replace(output)


def translate_stream(
    translator: Translator, lines: Iterable[str], output: Path, *, buffer_size: int
) -> None:
    """Translate lines that cannot be read again, all or nothing."""
    translations = translator.translate(lines, buffer_size=buffer_size)
    with new_file(output) as partial, partial.open("w", encoding="utf-8", newline="\n") as stream:
        for line in tqdm(translations, desc="translating", unit="line"):
            stream.write(line + "\n")


def check_output(output: Path, inputs: Iterable[Path]) -> None:
    """Check that ``output`` may be written, and make its folder.

    Raises:
        UserError: if it is a folder or a device, or one of ``inputs``.
        OSError: if its folder cannot be made.
    """
    if output.is_dir():
        raise UserError(f"--output {output} is a folder, but must be a file")
    if output.exists() and not output.is_file():  # /dev/null would be replaced by a file
        raise UserError(f"--output {output} is not a regular file; leave it out and redirect")
    for path in inputs:
        if output.exists() and path.exists() and output.samefile(path):
            raise UserError(f"--output {output} would overwrite {path}, which is needed")
    output.parent.mkdir(parents=True, exist_ok=True)


def _only_process_writing(stream: TextIO, output: Path) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"another process is translating into {output}") from error


def _keep_complete_lines(path: Path) -> int:
    """Cut a file after its last newline and return the number of its lines."""
    with path.open("r+b") as stream:
        lines, end = 0, 0
        for line in stream:
            if line.endswith(b"\n"):
                lines, end = lines + 1, end + len(line)
        stream.truncate(end)
    return lines
