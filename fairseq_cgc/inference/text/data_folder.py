"""What a checkpoint and its data folder say about the text that a model translates."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from fairseq_cgc.inference.text.detokenizer import MosesDecoder
from fairseq_cgc.inference.text.lines import read_lines
from fairseq_cgc.inference.text.pipeline import PREPARATION_FILE, TextPipeline
from fairseq_cgc.support.errors import UserError


def find_pipeline(data_dir: Path, pair: tuple[str, str]) -> TextPipeline | None:
    """How the text in ``data_dir`` was prepared, turned to the model's direction.

    The folder of a language pair serves models of both directions.

    Returns:
        ``None`` if the folder does not say.

    Raises:
        UserError: if its languages are not the model's, or the description is damaged.
    """
    if not (data_dir / PREPARATION_FILE).exists():
        return None
    pipeline = TextPipeline.load(data_dir)
    languages = (pipeline.source_lang, pipeline.target_lang)
    if sorted(languages) != sorted(pair):
        raise UserError(
            f"the model translates {pair[0]} to {pair[1]}, "
            f"but {data_dir} holds {' and '.join(languages)}"
        )
    return dataclasses.replace(pipeline, source_lang=pair[0], target_lang=pair[1])


def subwords_in(data_dir: Path, lang: str) -> str:
    """The kind of subwords in data that does not say it, by the dictionary of a language."""
    entries = list(read_lines(data_dir / f"dict.{lang}.txt"))
    begun = sum(entry.startswith("\u2581") for entry in entries)
    broken_off = sum(entry.partition(" ")[0].endswith("@@") for entry in entries)
    return "sentencepiece" if begun > broken_off else "subword_nmt"


def detokenize(pipeline: TextPipeline | None, lines: Iterable[str]) -> Iterator[str]:
    """Lines of tokens, subwords joined already, to plain text (unchanged without a pipeline)."""
    if pipeline is None or pipeline.tokenizer != "moses":
        return iter(lines)
    return map(MosesDecoder(pipeline.target_lang), lines)
