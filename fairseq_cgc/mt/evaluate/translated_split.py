"""Translate a binarised split into a file of JSON lines; an interrupted run can be continued."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from fairseq_cgc.inference.binarised import read_sentences, split_files
from fairseq_cgc.inference.dictionary import UNK, Dictionary
from fairseq_cgc.inference.text.subwords import remove_subwords
from fairseq_cgc.inference.translator import Translator
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import file_stamps


@dataclass(frozen=True)
class TranslatedSplit:
    """Translations of a split; every list is in the order of the source text."""

    sources: list[str]
    references: list[str] | None
    """``None`` if the data have no target side. Unknown words are ``<<unk>>``."""
    hypotheses: list[str]
    """The best translation of every sentence, subwords joined."""
    scores: list[float]
    """Length-normalised log-probability of every hypothesis."""
    sentences_per_second: float | None
    """Speed of beam search alone; None where every sentence is empty."""


def translate_split(
    translator: Translator,
    data_dir: Path,
    split: str,
    output: Path,
    *,
    inputs: list[Path],
    subwords: str | None,
    progress: bool = True,
) -> TranslatedSplit:
    """Translate a binarised split.

    Sources that are too long for the model are cut, with a warning. A finished ``output`` of the
    same files and options is read instead of made again; an unfinished one is continued.

    Args:
        translator: the model.
        data_dir: folder of ``fairseq-preprocess``.
        split: ``test``, ``valid``, ``test1`` ...
        output: file to write. Each line is a JSON object: the settings, then a sentence's number,
            translation and score, in the order of the search. It appears when it is complete.
        inputs: the files that the model was loaded from.
        subwords: how to join subwords: ``subword_nmt``, ``sentencepiece`` or ``None``.
        progress: whether to draw a progress bar on standard error.

    Raises:
        UserError: if the split is missing or damaged, or the file cannot be written.
    """
    files = split_files(data_dir, split, translator.languages)
    sources = [
        translator.cut(tokens, f"sentence {number} of {split}")
        for number, tokens in enumerate(read_sentences(files[0]), start=1)
    ]
    settings = {
        "options": dataclasses.asdict(translator.options),
        "device": translator.device.type,  # whichever of several GPUs
        "files": file_stamps([*inputs, *files]),
    }
    rows = _read(output, settings)
    if len(rows) < len(sources):
        partial = output.with_name(f".{output.name}.partial")
        rows = _read(partial, settings)
        with _continue(partial, settings, rows) as write:
            left = [i for i, s in enumerate(sources) if i not in rows and len(s) > 1]
            spent = max((row["seconds"] for row in rows.values()), default=0.0)
            started = time.perf_counter() - spent
            bar = tqdm(
                total=len(left), desc="translating", unit="sent", disable=None if progress else True
            )
            with bar:
                for place, (best, *_) in translator.search([sources[i] for i in left]):
                    text = remove_subwords(translator.target.decode(best.tokens), subwords)
                    seconds = time.perf_counter() - started
                    write(left[place], hypothesis=text, score=best.score, seconds=seconds)
                    bar.update()
            for index in range(len(sources)):
                if index not in rows:  # nothing but the end of the sentence
                    write(index, hypothesis="", score=0.0, seconds=0.0)
        partial.replace(output)

    def text_of(tokens: Tensor, dictionary: Dictionary, unknown: str) -> str:
        words = (unknown if t == UNK else dictionary.types[t] for t in tokens[:-1].tolist())
        return remove_subwords(" ".join(words), subwords)

    references = None
    if len(files) > 1:
        references = [text_of(t, translator.target, "<<unk>>") for t in read_sentences(files[1])]
    in_order = [rows[index] for index in range(len(sources))]
    spent = max(row["seconds"] for row in in_order)
    return TranslatedSplit(
        sources=[text_of(s, translator.source, "<unk>") for s in sources],
        references=references,
        hypotheses=[row["hypothesis"] for row in in_order],
        scores=[row["score"] for row in in_order],
        sentences_per_second=len(sources) / spent if spent else None,
    )


def _read(path: Path, settings: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Sentence -> its row; none from a file that was made with other settings."""
    try:
        header, *lines = path.read_bytes().split(b"\n")
        if json.loads(header) != settings:
            return {}
    except (OSError, ValueError):
        return {}
    rows = {}
    for line in lines:
        with contextlib.suppress(ValueError):  # the unfinished last line of a killed run
            row = json.loads(line)
            rows[row.pop("sentence")] = row
    return rows


@contextlib.contextmanager
def _continue(
    path: Path, settings: dict[str, Any], rows: dict[int, dict[str, Any]]
) -> Iterator[Callable[..., None]]:
    """Write ``rows`` to the file, and give a function that adds a row to both."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Line buffering: even a killed run leaves all that it has translated.
        with path.open("w", encoding="utf-8", buffering=1) as stream:
            stream.write(json.dumps(settings) + "\n")

            def write(sentence: int, **row: Any) -> None:
                rows[sentence] = row
                line = json.dumps({"sentence": sentence, **row}, ensure_ascii=False)
                stream.write(line + "\n")

            for sentence, row in list(rows.items()):
                write(sentence, **row)
            yield write
            os.fsync(stream.fileno())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
