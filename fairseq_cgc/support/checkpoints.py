"""Checkpoints: written whole, and read without running code and without fairseq."""

from __future__ import annotations

import argparse
import importlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import new_file


def save_tensors(path: Path, content: Any) -> None:
    """``torch.save``, all or nothing.

    Raises:
        UserError: if the file cannot be written (rights, space).
    """
    with new_file(path) as partial, partial.open("wb") as stream:
        try:
            torch.save(content, stream)
        except RuntimeError as error:  # torch's own about the file's length; the cause is below it
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_safely(path: Path, *, tensors: bool = True) -> Any:
    """``torch.load`` of tensors and plain values only, onto the CPU.

    Args:
        path: of the file.
        tensors: read the tensors and compare checksums; otherwise the tensors are mapped.

    Raises:
        UserError: if the file is missing, damaged (a single bit suffices, except in files of
            torch before 1.6, which have no checksums) or asks to run code.
    """
    damaged = None
    try:
        is_zip = zipfile.is_zipfile(path)  # what torch writes since 1.6
        if tensors and is_zip:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()  # torch.load ignores the checksums
        if damaged is None:
            mapped = is_zip and not tensors
            with warnings.catch_warnings(action="ignore"):  # of old or foreign pickles
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # a damaged file fails in as many ways as there are bytes
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and refused:
            raise UserError(f"{path} is refused: it asks to run or build {refused[1]}") from None
        if path.suffix == ".safetensors":
            raise UserError(
                f"{path} is damaged, or needs another torch or pip install safetensors; "
                "torch.save(safetensors.torch.load_file(IN), OUT) converts it"
            ) from None
        raise UserError(f"{path} is damaged, or not a checkpoint at all") from None
    raise UserError(f"{path} is damaged: the checksum of {damaged} is wrong")


def safe_load(path: str | Path, *, only_options: bool = False) -> dict[str, Any]:
    """Read a checkpoint of fairseq without running any code that it may contain.

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


def allow_checkpoint_classes() -> None:
    """Allow the few harmless classes of fairseq's checkpoints, which torch.load refuses."""
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


def load_model_state(path: Path, *, only_options: bool = False) -> dict[str, Any]:
    """A checkpoint without its optimizer state; ``["model"]`` maps names to tensors.

    Args:
        path, only_options: see :func:`safe_load`.

    Raises:
        UserError: if the file is no fairseq checkpoint.
    """
    state = safe_load(path, only_options=only_options)
    model = state.get("model")
    if not isinstance(model, Mapping) or not all(
        isinstance(name, str) and torch.is_tensor(value) for name, value in model.items()
    ):
        raise UserError(f"{path} has no model weights: not a checkpoint written by fairseq-train")
    state.pop("last_optimizer_state", None)
    return state


def read_config(state: Mapping[str, Any], section: str, key: str) -> Any:
    """One value of the configuration stored in a checkpoint (``None`` where it is missing).

    Checkpoints of fairseq before 0.10 keep one flat ``args`` instead of a ``cfg`` with sections.
    """
    config = state.get("cfg")
    options = state.get("args") or (config.get(section) if isinstance(config, Mapping) else None)
    return options.get(key) if isinstance(options, Mapping) else getattr(options, key, None)
