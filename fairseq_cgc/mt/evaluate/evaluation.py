"""From a training run to its scores: average, translate a split, detokenise, score."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fairseq_cgc.inference.binarised import read_sentences, split_files
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.inference.text.lines import read_lines, write_lines
from fairseq_cgc.inference.text.pipeline import TextPipeline, detokenize, find_pipeline, subwords_in
from fairseq_cgc.inference.trained_model import language_pair
from fairseq_cgc.mt.evaluate.fairseq_translator import open_translator
from fairseq_cgc.mt.evaluate.metrics import Scores, Texts, score_texts
from fairseq_cgc.mt.evaluate.translated_split import translate_split
from fairseq_cgc.mt.train.averaging import (
    average,
    epoch_checkpoints,
    is_average_of,
    select_checkpoints,
    updates_of,
)
from fairseq_cgc.support.checkpoints import load_model_state
from fairseq_cgc.support.environment import versions
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import write_json
from fairseq_cgc.support.settings_record import only_process_in

logger = logging.getLogger(__name__)

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
    """The checkpoints that it averages; itself if it is no average."""

    @property
    def name(self) -> str:
        """For naming results."""
        return self.path.name.removesuffix(".pt")

    @functools.cached_property
    def updates(self) -> list[int | None]:
        """The training updates of each of the inputs; ``None`` where the file does not say."""
        return updates_of(load_model_state(self.path))


def describe_weights(checkpoints: Sequence[str], updates: Sequence[int | None]) -> str:
    """What was scored, in words: the checkpoints and their training updates."""
    text = ", ".join(checkpoints)
    counts = ", ".join("unknown" if number is None else f"{number:,}" for number in updates)
    if len(updates) == 1:
        return f"{text} (update {counts})"
    if len(checkpoints) == 1:  # an average that was evaluated as one file
        return f"{text} (average of updates {counts})"
    return f"average of {text} (updates {counts})"


def prepare_model(
    target: Path, selection: dict[str, int] | None, *, or_fewer: bool = False
) -> Model:
    """Average checkpoints, unless that has been done already.

    Args:
        target: a checkpoint, or the ``--save-dir`` of a training.
        selection: the keyword of :func:`select_checkpoints` and its number. ``None`` for no
            average: the file itself, or ``checkpoint_best.pt`` of the folder.
        or_fewer: take the epochs there are where the selection wants more, and
            ``checkpoint_last.pt`` where the training ended within its first epoch; log it.

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
    ((keyword, number),) = selection.items()
    if or_fewer and (there := len(epoch_checkpoints(target))) < number:
        if there == 0:
            last = target / "checkpoint_last.pt"
            if not last.is_file():
                raise UserError(
                    f"{target} has no checkpoints: no checkpointEPOCH.pt, no {last.name}"
                )
            logger.info("%s has no checkpointEPOCH.pt; %s is taken as it is", target, last.name)
            return Model(last, [last])
        logger.info("%s has %d of the last %d epochs; averaging these", target, there, number)
        number = there
    paths = select_checkpoints(target, **{keyword: number})
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

    Writes ``hypotheses.txt`` (detokenised), ``references.txt`` (what plain text is compared with),
    ``translations.jsonl`` (see :func:`translate_split`) and ``scores.json`` into the output folder.

    Args:
        model: see :func:`prepare_model`.
        data_dir: folder of binarised data. With its ``preparation.json``, the translations are
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
    # Mistakes are reported before anything is translated.
    pair = language_pair(load_model_state(model.path), data_dir)
    pipeline = find_pipeline(data_dir, pair)
    plain = plain_references(data_dir, split, pair, pipeline, reference)
    if options.max_len_a is None:  # as fairseq-generate
        options = dataclasses.replace(options, max_len_a=0.0)
    translator = open_translator(model.path, data_dir, options, device)
    with only_process_in(output):
        generation = translate_split(
            translator,
            data_dir,
            split,
            output / TRANSLATIONS,
            inputs=[model.path],
            subwords=pipeline.subwords if pipeline else subwords_in(data_dir, pair[1]),
        )
    tokens = generation.references
    if tokens is None:
        assert plain is not None  # else plain_references would have raised
        tokens = list(pipeline.tokenize(plain, pair[1])) if pipeline else plain
    raw_sources = pipeline.reference_lines(split, pair[0]) if pipeline else None
    note = _note(pipeline, from_data=plain is None)
    texts = Texts(
        sources=raw_sources or generation.sources,
        hypotheses=list(detokenize(pipeline, generation.hypotheses)),
        references=_detokenized_references(tokens, pipeline) if plain is None else plain,
        hypothesis_tokens=generation.hypotheses,
        reference_tokens=tokens,
        lowercase=pipeline.lowercase if pipeline else False,
        target_lang=pair[1],
        # The note says that the text is tokenised; sacreBLEU need not warn too.
        tokenized=note is not None,
    )
    write_lines(output / HYPOTHESES, texts.hypotheses)
    write_lines(output / REFERENCES, texts.references)
    scores = score_texts(texts, note)

    speed = generation.sentences_per_second
    record = {
        "command": list(command),
        "versions": versions(),
        "device": options.device_name,
        "checkpoint": str(model.path),
        "averaged_checkpoints": [str(path) for path in model.inputs],
        "updates": model.updates,
        "data": str(data_dir),
        "split": split,
        "beam": options.beam,
        "lenpen": options.lenpen,
        "lenpen_tuning": tuning,
        "max_tokens": options.max_tokens,
        "batch_size": options.batch_size,
        "precision": options.precision,
        "sentences": len(texts.hypotheses),
        "seconds": len(texts.hypotheses) / speed if speed else None,
        "sentences_per_second": speed,
        "scores": scores.to_json(),
    }
    write_json(output / "scores.json", record)
    return scores, output


def plain_references(
    data_dir: Path,
    split: str,
    pair: tuple[str, str],
    pipeline: TextPipeline | None,
    reference: Path | None,
) -> list[str] | None:
    """The raw text to score translations against.

    ``reference`` replaces what is stored with the data. The result is ``None`` if there is no raw
    text, but the data have the target side.

    Raises:
        UserError: if there is nothing to score against, or not one line for every sentence.
    """
    files = split_files(data_dir, split, pair)
    sentences = len(read_sentences(files[0]))
    if sentences == 0:
        raise UserError(f"the {split} split of {data_dir} has no sentences")
    if reference is not None:
        lines, name = list(read_lines(reference)), f"--reference {reference}"
    else:
        raw = pipeline.reference_lines(split, pair[1]) if pipeline else None
        if raw is None:
            if len(files) == 1:
                raise UserError(
                    f"{data_dir} has no {pair[1]} side of {split!r} to score against; "
                    "give the references with --reference"
                )
            return None
        lines, name = raw, f"the raw text of {data_dir} ({split}.{pair[1]})"
    if len(lines) != sentences:
        raise UserError(
            f"{name} has {len(lines)} lines, but the {split} split of {data_dir} has {sentences}"
        )
    return lines


def check_references(model: Model, data_dir: Path, split: str, reference: Path | None) -> None:
    """Raise UserError where :func:`evaluate` would find no references for the split."""
    pair = language_pair(load_model_state(model.path), data_dir)
    plain_references(data_dir, split, pair, find_pipeline(data_dir, pair), reference)


def _detokenized_references(tokens: list[str], pipeline: TextPipeline | None) -> list[str]:
    """Plain text of references that the data hold as tokens; unknown words match nothing."""
    marked = [line.replace(_UNKNOWN, _MATCHES_NOTHING) for line in tokens]
    return list(detokenize(pipeline, marked))


def _note(pipeline: TextPipeline | None, *, from_data: bool) -> str | None:
    """What a reader must know about the references before comparing scores."""
    if pipeline is None:
        return "no preparation.json in the data: nothing is detokenised for sacreBLEU and chrF"
    if not from_data:
        return None
    how = "as they are in it" if pipeline.tokenizer == "none" else "detokenised from it"
    return f"no raw references in the data: sacreBLEU and chrF are against references {how}"
