"""A trained model with its dictionaries and text preparation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fairseq_cgc.inference.binarised import language_pair_of
from fairseq_cgc.inference.dictionary import Dictionary
from fairseq_cgc.inference.exported import is_exported, read_exported
from fairseq_cgc.inference.model import Model
from fairseq_cgc.inference.model_options import ModelOptions
from fairseq_cgc.inference.precision import PRECISIONS, set_precision
from fairseq_cgc.inference.text.pipeline import TextPipeline, find_pipeline
from fairseq_cgc.support.checkpoints import load_model_state, read_config
from fairseq_cgc.support.errors import UserError


@dataclass(frozen=True)
class TrainedModel:
    """One model or an ensemble, with its dictionaries and text preparation."""

    models: list[Model]
    languages: tuple[str, str]
    """Source and target."""
    source: Dictionary
    target: Dictionary
    pipeline: TextPipeline | None
    """How raw text is prepared; None if the data folder does not say."""
    max_source_positions: int
    """The largest number of tokens in a source sentence, its end included."""


def load_trained(
    paths: Sequence[Path], data_dir: Path | None, precision: str, device: torch.device
) -> TrainedModel:
    """Load a model, or an ensemble.

    Args:
        paths: checkpoints, or one exported folder.
        data_dir: the folder that the checkpoints were trained on; None for an exported folder.
        precision: the precision of the weights; float32 leaves an exported folder as it is.
        device: the device of the models.

    Raises:
        UserError: if a file is missing or damaged, or the files do not belong together.
    """
    if not paths:
        raise UserError("there is no model to load: the list of checkpoints is empty")
    if len(paths) == 1 and is_exported(paths[0]):
        if data_dir is not None and data_dir.resolve() != paths[0].resolve():
            raise UserError(f"{paths[0]} is an exported model: it takes no --data ({data_dir})")
        return _load_exported(paths[0], precision, device)
    for path in paths:
        if is_exported(path):
            raise UserError(f"{path} is an exported model: an ensemble is of checkpoints alone")
    if data_dir is None:
        if paths[0].is_dir():
            raise UserError(f"{paths[0]} is no exported model: it has no model.json")
        if not paths[0].exists():
            raise UserError(f"{paths[0]}: there is no such checkpoint or exported folder")
        raise UserError(
            f"{paths[0]} is a checkpoint: give the data that it was trained on (--data)"
        )
    states = [load_model_state(path) for path in paths]
    languages = language_pair(states[0], data_dir)
    for path, state in zip(paths, states, strict=True):
        other = language_pair(state, data_dir)
        if other != languages:
            raise UserError(
                f"{path} translates {' to '.join(other)}, but {paths[0]} {' to '.join(languages)}"
            )
    source, target = (load_dictionary(data_dir, lang) for lang in languages)
    models = []
    for path, state in zip(paths, states, strict=True):
        model = _model_of(path, state)
        for side, dictionary in (("encoder", source), ("decoder", target)):
            types = len(getattr(model, side).embed_tokens.weight)
            if types != len(dictionary):
                raise UserError(
                    f"{path}: the checkpoint's {side} dictionary has {types} types, but the "
                    f"data's has {len(dictionary)}; use the dictionaries it was trained with"
                )
        set_precision(model, precision)
        models.append(model.to(device))
    return _trained(models, languages, source, target, find_pipeline(data_dir, languages))


def language_pair(state: Mapping[str, Any], data_dir: Path) -> tuple[str, str]:
    """The source and target language of a model.

    Args:
        state: a loaded checkpoint, which need not name its languages.
        data_dir: the folder that it was trained on, whose files are named after them.

    Raises:
        UserError: if neither names them.
    """
    if not data_dir.is_dir():
        raise UserError(f"--data {data_dir} is not a folder")
    source, target = (read_config(state, "task", key) for key in ("source_lang", "target_lang"))
    if source is not None and target is not None:
        return source, target
    pair = language_pair_of(data_dir)
    if pair is None:
        raise UserError(f"{data_dir} has no binarised data of a language pair")
    return pair


def _model_of(path: Path, state: Mapping[str, Any]) -> Model:
    try:
        return Model.from_state(ModelOptions.from_checkpoint(state), state["model"])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _load_exported(folder: Path, precision: str, device: torch.device) -> TrainedModel:
    exported = read_exported(folder)
    model = exported.model
    if precision not in (PRECISIONS[0], exported.precision):
        if exported.precision != PRECISIONS[0]:
            raise UserError(
                f"--precision is {precision}, but {folder} was exported in {exported.precision}"
            )
        set_precision(model, precision)
    if exported.precision == "int8" and device.type != "cpu":
        raise UserError(f"{folder} was exported in int8, which is for CPUs only; add --cpu")
    source, target = (load_dictionary(folder, lang) for lang in exported.languages)
    pipeline = find_pipeline(folder, exported.languages)
    return _trained([model.to(device)], exported.languages, source, target, pipeline)


def load_dictionary(folder: Path, lang: str) -> Dictionary:
    """Load the dictionary of a language from a data folder.

    Raises:
        UserError: if it is missing or damaged.
    """
    path = folder / f"dict.{lang}.txt"
    if not path.is_file():
        raise UserError(f"{folder} has no dictionary {path.name}")
    return Dictionary.load(path)


def _trained(
    models: list[Model],
    languages: tuple[str, str],
    source: Dictionary,
    target: Dictionary,
    pipeline: TextPipeline | None,
) -> TrainedModel:
    longest = min(model.options.max_source_positions for model in models)
    return TrainedModel(models, languages, source, target, pipeline, longest)
