"""From a training run to its scores: average, translate a split, detokenise, score."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_cgc.core.errors import UserError
from fairseq_cgc.mt.checkpoints import (
    average,
    is_average_of,
    load_model_state,
    select_checkpoints,
)
from fairseq_cgc.mt.corpora import new_file, read_lines, write_lines
from fairseq_cgc.mt.generation import Generation, run_generation
from fairseq_cgc.mt.pipeline import TextPipeline
from fairseq_cgc.mt.scoring import (
    Scores,
    check_paired,
    chrf_score,
    sacrebleu_score,
    tokenized_bleu,
)
from fairseq_cgc.mt.search import SearchOptions
from fairseq_cgc.mt.trained import detokenize, find_pipeline, language_pair

_PACKAGES = {"torch": "torch", "fairseq": "fairseq-fixed", "sacrebleu": "sacrebleu"}


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


def evaluate(
    model: Model,
    data_dir: Path,
    *,
    split: str = "test",
    options: SearchOptions | None = None,
    reference: Path | None = None,
    output: Path | None = None,
    command: Sequence[str] = (),
) -> tuple[Scores, Path]:
    """Translate a split and score it.

    Writes ``hypotheses.txt`` (detokenised), ``generate.log`` (what fairseq printed) and
    ``scores.json`` into the output folder.

    Args:
        model: see :func:`prepare_model`.
        data_dir: folder of binarised data; with its ``preparation.json`` the translations are
            detokenised and scored against the raw references that belong to it.
        split: split of the data to translate.
        options: beam search.
        reference: raw text to score against instead.
        output: folder for the results; by default beside the checkpoint, named after the model,
            the split and the search.
        command: what the user typed, for the record.

    Returns:
        The scores and the output folder.

    Raises:
        UserError: if model, data and references do not fit together.
    """
    options = options or SearchOptions()
    if output is None:
        search = f"beam{options.beam}-lenpen{options.lenpen:g}"
        output = model.path.parent / f"{model.name}.{split}.{search}"
    pair = language_pair(load_model_state(model.path), data_dir)
    pipeline = find_pipeline(data_dir, pair)
    generation = run_generation(
        model.path,
        data_dir,
        output / "generate.log",
        pair,
        split=split,
        options=options,
        post_process=pipeline.subwords if pipeline else "subword_nmt",
    )
    translations = list(detokenize(pipeline, generation.decoded))
    write_lines(output / "hypotheses.txt", translations)
    scores = _score(generation, translations, pipeline, pair[1], data_dir, split, reference)

    speed = generation.sentences_per_second
    record = {
        "command": list(command),
        "versions": _versions(),
        "device": options.device_name,
        "checkpoint": str(model.path),
        "averaged_checkpoints": [str(path) for path in model.inputs],
        "data": str(data_dir),
        "split": split,
        "beam": options.beam,
        "lenpen": options.lenpen,
        "max_tokens": options.max_tokens,
        "batch_size": options.batch_size,
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
    pipeline: TextPipeline | None,
    target_lang: str,
    data_dir: Path,
    split: str,
    reference: Path | None,
) -> Scores:
    if generation.references is None:
        raise UserError(f"{data_dir} has no {target_lang} side of {split!r} to score against")
    raw = pipeline.reference_lines(split, target_lang) if pipeline else None
    references, name = (raw or generation.references), f"{data_dir} ({split}.{target_lang})"
    if reference is not None:
        references, name = list(read_lines(reference)), str(reference)
    check_paired(
        translations, references, hypotheses_name=f"the output for {split}", references_name=name
    )
    note = None
    if pipeline is None:
        note = "no preparation.json in the data: sacreBLEU and chrF are on tokenised translations"
    elif raw is None and reference is None:
        note = "no raw references in the data: sacreBLEU and chrF are against tokenised text"
    lowercase = pipeline.lowercase if pipeline else False
    return Scores(
        tokenized=tokenized_bleu(generation.decoded, generation.references),
        sacrebleu=sacrebleu_score(
            translations,
            references,
            lowercase=lowercase,
            target_lang=target_lang,
            tokenized=note is not None,
        ),
        chrf=chrf_score(translations, references, lowercase=lowercase),
        note=note,
    )


def _versions() -> dict[str, Any]:
    packages = {name: importlib.metadata.version(package) for name, package in _PACKAGES.items()}
    return {"python": platform.python_version(), **packages}
