"""Checkpoints of ``fairseq-train``, read without fairseq."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairseq_cgc.compat.checkpoints import safe_load
from fairseq_cgc.core.errors import UserError
from fairseq_cgc.inference.model import Model
from fairseq_cgc.inference.options import ModelOptions


def load_model(path: Path) -> tuple[Model, Mapping[str, Any]]:
    """The model of a checkpoint, and the checkpoint itself.

    Raises:
        UserError: if the file is missing, damaged or hostile, or is no LightConv.
    """
    state = safe_load(path)
    weights = state.get("model")
    if not isinstance(weights, Mapping):
        raise UserError(f"{path} is not a checkpoint of fairseq-train: it has no entry 'model'")
    try:
        return Model.from_state(ModelOptions.from_checkpoint(state), weights), state
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
