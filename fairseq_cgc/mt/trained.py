"""What a checkpoint and its data folder say about the text that a model translates."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fairseq.data import data_utils

from fairseq_cgc.core.errors import UserError
from fairseq_cgc.inference.precision import PRECISIONS
from fairseq_cgc.mt.checkpoints import read_config
from fairseq_cgc.mt.corpora import read_lines
from fairseq_cgc.mt.detokenizer import MosesDecoder
from fairseq_cgc.mt.pipeline import PREPARATION_FILE, TextPipeline


def language_pair(state: Mapping[str, Any], data_dir: Path) -> tuple[str, str]:
    """Source and target language of a model.

    Args:
        state: a loaded checkpoint. It names languages only if ``fairseq-train`` was told them.
        data_dir: the folder it was trained on, whose files are named after them otherwise.

    Raises:
        UserError: if neither says.
    """
    if not data_dir.is_dir():
        raise UserError(f"--data {data_dir} is not a folder")
    pair = [read_config(state, "task", key) for key in ("source_lang", "target_lang")]
    if None in pair:
        pair = list(data_utils.infer_language_pair(str(data_dir)))
    if None in pair:
        raise UserError(f"{data_dir} has no binarised data of a language pair")
    return pair[0], pair[1]


def check_precision_fits(state: Mapping[str, Any], precision: str) -> None:
    """See that a model can run in the precision asked for.

    Args:
        state: a loaded checkpoint.
        precision: one of :data:`~fairseq_cgc.inference.precision.PRECISIONS`.

    Raises:
        UserError: if it is not float32 and the model is not one of ours.
    """
    architecture = read_config(state, "model", "_name") or read_config(state, "model", "arch")
    if precision != PRECISIONS[0] and not str(architecture).startswith("lightconv_cgc"):
        raise UserError(
            f"--precision {precision} is for lightconv_cgc models, but this one is {architecture}"
        )


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
