"""From a training run to its scores: average, translate a split, detokenise, score."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fairseq_cgc.core.errors import UserError
from fairseq_cgc.core.files import new_file
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.mt.checkpoints import (
    average,
    is_average_of,
    select_checkpoints,
)
from fairseq_cgc.mt.corpora import read_lines, write_lines
from fairseq_cgc.mt.environment import versions
from fairseq_cgc.mt.fairseq_translator import open_translator
from fairseq_cgc.mt.generation import Generation, translate_split
from fairseq_cgc.mt.pipeline import TextPipeline
from fairseq_cgc.mt.scoring import (
    Scores,
    check_paired,
    chrf_score,
    sacrebleu_score,
    tokenized_bleu,
)
from fairseq_cgc.mt.trained import detokenize, subwords_in

#: How fairseq writes an unknown word of a reference. Translations have ``<unk>``, which shares
#: characters and sacreBLEU's tokens with it.
_UNKNOWN = "<<unk>>"
_MATCHES_NOTHING = "\ufffd"

#: Files in the output folder.
HYPOTHESES = "hypotheses.txt"
REFERENCES = "references.txt"
TRANSLATIONS = "translations.jsonl"


@dataclass(frozen=True)
class Model:
    """The checkpoint to evaluate."""

    path: Path
    """A checkpoint of fairseq."""
    inputs: list[Path]
    """The checkpoints it is the average of; itself if it is none."""

    @property
    def name(self) -> str:
        """For naming results."""
        return self.path.name.removesuffix(".pt")


def prepare_model(target: Path, selection: dict[str, int] | None) -> Model:
    """Average checkpoints unless that has been done already.

    Args:
        target: a checkpoint, or the ``--save-dir`` of a training.
        selection: the keyword of :func:`select_checkpoints` and its number; ``None`` for no
            average: the file itself, or ``checkpoint_best.pt`` of the folder.

    Raises:
        UserError: if files are missing or do not fit together.
    """
    if selection is None:
        path = target / "checkpoint_best.pt" if target.is_dir() else target
        if not path.is_file():
            raise UserError(f"{path} does not exist")
        return Model(path, [path])
    if target.is_file():
        raise UserError(f"{target} is one checkpoint; to average, give the folder it is in")
    paths = select_checkpoints(target, **selection)
    ((keyword, number),) = selection.items()
    output = target / f"average-{keyword.replace('_', '-')}-{number}.pt"
    if not is_average_of(output, paths):
        average(paths, output)
    return Model(output, paths)


def default_output(model: Model, split: str, options: SearchOptions) -> Path:
    """Folder beside the checkpoint, named after the model, the split and the search."""
    search = f"beam{options.beam}-lenpen{options.lenpen:g}"
    if options.precision != SearchOptions.precision:
        search += f"-{options.precision}"
    return model.path.parent / f"{model.name}.{split}.{search}"


def evaluate(
    model: Model,
    data_dir: Path,
    *,
    split: str = "test",
    options: SearchOptions | None = None,
    reference: Path | None = None,
    output: Path | None = None,
    command: Sequence[str] = (),
    tuning: Mapping[str, Any] | None = None,
    device: torch.device | None = None,
) -> tuple[Scores, Path]:
    """Translate a split and score it.

    Writes ``hypotheses.txt`` (detokenised), ``references.txt`` (what sacreBLEU and chrF compared
    them with), ``translations.jsonl`` (see :func:`translate_split`) and ``scores.json`` into
    the output folder.

    Args:
        model: see :func:`prepare_model`.
        data_dir: folder of binarised data; with its ``preparation.json`` the translations are
            detokenised and scored against the raw references that belong to it.
        split: split of the data to translate.
        options: beam search.
        reference: raw text to score against instead.
        output: folder for the results; :func:`default_output` if missing.
        command: what the user typed, for the record.
        tuning: how the length penalty was chosen, for the record.
        device: where the model runs; by default what ``options`` say.

    Returns:
        The scores and the output folder.

    Raises:
        UserError: if model, data and references do not fit together.
    """
    options = options or SearchOptions()
    output = output or default_output(model, split, options)
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file, but must be a folder")
    # Read before anything is translated, so that a mistake is told at once.
    own = None if reference is None else (list(read_lines(reference)), str(reference))
    if options.max_len_a is None:  # as fairseq-generate
        options = dataclasses.replace(options, max_len_a=0.0)
    translator = open_translator(model.path, data_dir, options, device)
    pair, pipeline = translator.languages, translator.preparation
    generation = translate_split(
        translator,
        data_dir,
        split,
        output / TRANSLATIONS,
        inputs=[model.path],
        subwords=pipeline.subwords if pipeline else subwords_in(data_dir, pair[1]),
    )
    if generation.references is None:
        raise UserError(f"{data_dir} has no {pair[1]} side of {split!r} to score against")
    translations = list(detokenize(pipeline, generation.hypotheses))
    references, name, note = _references(
        generation.references, pipeline, pair[1], data_dir, split, own
    )
    check_paired(
        translations, references, hypotheses_name=f"the output for {split}", references_name=name
    )
    write_lines(output / HYPOTHESES, translations)
    write_lines(output / REFERENCES, references)
    scores = _score(generation, translations, references, pipeline, pair[1], note)

    speed = generation.sentences_per_second
    record = {
        "command": list(command),
        "versions": versions(),
        "device": options.device_name,
        "checkpoint": str(model.path),
        "averaged_checkpoints": [str(path) for path in model.inputs],
        "data": str(data_dir),
        "split": split,
        "beam": options.beam,
        "lenpen": options.lenpen,
        "lenpen_tuning": tuning,
        "max_tokens": options.max_tokens,
        "batch_size": options.batch_size,
        "precision": options.precision,
        "sentences": len(translations),
        "seconds": len(translations) / speed if speed else None,
        "sentences_per_second": speed,
        "scores": scores.to_json(),
    }
    with new_file(output / "scores.json") as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return scores, output


def _score(
    generation: Generation,
    translations: list[str],
    references: list[str],
    pipeline: TextPipeline | None,
    target_lang: str,
    note: str | None,
) -> Scores:
    assert generation.references is not None  # evaluate has checked
    lowercase = pipeline.lowercase if pipeline else False
    bleu, other_case = (
        sacrebleu_score(
            translations,
            references,
            lowercase=lower,
            target_lang=target_lang,
            # It warns about tokenised text. Our note says so already; once is enough besides.
            tokenized=note is not None or lower != lowercase,
        )
        for lower in (lowercase, not lowercase)
    )
    return Scores(
        tokenized=tokenized_bleu(generation.hypotheses, generation.references),
        sacrebleu=bleu,
        sacrebleu_other_case=other_case,
        chrf=chrf_score(translations, references, lowercase=lowercase),
        note=note,
    )


def _references(
    decoded: list[str],
    pipeline: TextPipeline | None,
    target_lang: str,
    data_dir: Path,
    split: str,
    own: tuple[list[str], str] | None,
) -> tuple[list[str], str, str | None]:
    """What plain translations are scored against, its name, and what a reader must know of it.

    Args:
        decoded: the references in the data, subwords joined.
        own: the user's and their name; they go before all others.
    """
    note = None
    if pipeline is None:
        note = "no preparation.json in the data: nothing is detokenised for sacreBLEU and chrF"
    if own is not None:
        return *own, note
    name = f"{data_dir} ({split}.{target_lang})"
    marked = [line.replace(_UNKNOWN, _MATCHES_NOTHING) for line in decoded]
    if pipeline is None:
        return marked, name, note
    raw = pipeline.reference_lines(split, target_lang)
    if raw is not None:
        return raw, name, None
    how = "as they are in it" if pipeline.tokenizer == "none" else "detokenised from it"
    note = f"no raw references in the data: sacreBLEU and chrF are against references {how}"
    return list(detokenize(pipeline, marked)), name, note
