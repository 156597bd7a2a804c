"""Checkpoints: loaded without running code, saved whole, refused in one line."""

from __future__ import annotations

import argparse
import functools
import importlib
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fairseq_cgc.core.errors import UserError


def safe_load(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint to CPU memory without running any code that it may contain.

    Raises:
        UserError: if the file is missing, truncated, no checkpoint, or asks for a class
            that is not on the short list of allowed ones.
    """
    allow_checkpoint_classes()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"checkpoint {path} cannot be read: {error.strerror}") from None
    except Exception as error:  # a damaged file fails in as many ways as there are bytes
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and refused:
            raise UserError(
                f"checkpoint {path} is refused: it asks to run or build {refused.group(1)}, "
                "which no fairseq checkpoint needs"
            ) from None
        raise UserError(f"checkpoint {path} is damaged or not a checkpoint at all") from None
    if not isinstance(state, dict):
        raise UserError(f"checkpoint {path} is not a fairseq checkpoint: it holds no dictionary")
    return state


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


def explain_unreadable_checkpoints() -> None:
    from fairseq import checkpoint_utils

    load = checkpoint_utils.load_checkpoint_to_cpu

    @functools.wraps(load)
    def load_checkpoint_to_cpu(path: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return load(path, *args, **kwargs)
        except Exception:
            safe_load(path)  # raises the one-line reason, if the file is the reason
            raise

    checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu


def copy_checkpoints_whole() -> None:
    from fairseq.file_io import PathManager

    copy = PathManager.copy

    @functools.wraps(copy)
    def copy_whole(src_path: str, dst_path: str, overwrite: bool = False) -> Any:
        if not overwrite or not PathManager.supports_rename(dst_path):
            return copy(src_path, dst_path, overwrite)
        partial = dst_path + ".tmp"
        copied = copy(src_path, partial, overwrite)
        PathManager.rename(partial, dst_path)
        return copied

    PathManager.copy = staticmethod(copy_whole)
