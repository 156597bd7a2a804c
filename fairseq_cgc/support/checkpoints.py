"""Checkpoints of ``fairseq-train``, read without fairseq and without running code."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import read_safely


def safe_load(path: str | Path, *, only_options: bool = False) -> dict[str, Any]:
    """Read a checkpoint to CPU memory without running any code that it may contain.

    Args:
        path: of the file.
        only_options: leave the tensors on the disk, and do not compare their checksums.

    Raises:
        UserError: if the file is missing, damaged, no checkpoint, or asks for a class
            that is not on the short list of allowed ones.
    """
    allow_checkpoint_classes()
    state = read_safely(Path(path), tensors=not only_options)
    if not isinstance(state, dict):
        raise UserError(f"{path} is not a fairseq checkpoint: it holds no dictionary")
    return state


def read_config(state: Mapping[str, Any], section: str, key: str) -> Any:
    """One value of the configuration stored in a checkpoint (``None`` where it is missing).

    Checkpoints of fairseq before 0.10 keep one flat ``args`` instead of a ``cfg`` with sections.
    """
    options = state.get("args") or (state.get("cfg") or {}).get(section)
    return options.get(key) if isinstance(options, Mapping) else getattr(options, key, None)


def allow_checkpoint_classes() -> None:
    # Models with argparse options save a Namespace; --eval-bleu saves small numpy arrays,
    # under the old module name when numpy 1 wrote them.
    multiarray = np.empty(0).__reduce__()[0].__module__
    functions = importlib.import_module(multiarray)
    torch.serialization.add_safe_globals(
        [
            argparse.Namespace,
            np.ndarray,
            np.dtype,
            *{type(np.dtype(name)) for name in ("int64", "float64", "int32", "float32")},
            *(
                (getattr(functions, name), f"{module}.{name}")
                for name in ("_reconstruct", "scalar")
                for module in ("numpy.core.multiarray", "numpy._core.multiarray")
            ),
        ]
    )


def load_model_state(path: Path) -> dict[str, Any]:
    """A checkpoint without its optimizer state; ``["model"]`` maps names to tensors.

    Raises:
        UserError: if the file is no fairseq checkpoint.
    """
    state = safe_load(path)
    model = state.get("model")
    if not isinstance(model, Mapping) or not all(map(torch.is_tensor, model.values())):
        raise UserError(f"{path} has no model weights: not a checkpoint written by fairseq-train")
    state.pop("last_optimizer_state", None)
    return state


def file_stamps(paths: Iterable[Path]) -> list[list[Any]]:
    """Name, size in bytes and time of change (ns) of every file: equal stamps, same content."""
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
