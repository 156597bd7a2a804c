"""Checkpoints: loaded without running code, saved whole, refused in one line."""

from __future__ import annotations

import functools
import tempfile
import types
from pathlib import Path
from typing import Any

import torch

from fairseq_cgc.compat.starting import forget_initial_weights
from fairseq_cgc.support.checkpoints import safe_load, save_tensors
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import new_file


class _SafeTorch(types.ModuleType):
    """``torch``, as the module of fairseq sees it that reads checkpoints."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def load(stream: Any, **_: Any) -> dict[str, Any]:
        return safe_load(stream.name)


def read_checkpoints_safely() -> None:
    """Read every checkpoint with :func:`safe_load`; say in one line what does not fit."""
    from fairseq import checkpoint_utils
    from fairseq.trainer import Trainer

    checkpoint_utils.torch = _SafeTorch("torch")
    read, load = checkpoint_utils.load_checkpoint_to_cpu, Trainer.load_checkpoint
    load_models = checkpoint_utils.load_model_ensemble_and_task

    @functools.wraps(read)
    def load_checkpoint_to_cpu(path: str, *args: Any, **kwargs: Any) -> Any:
        try:
            state = read(path, *args, **kwargs)
            for options in (state.get("args"), getattr(state.get("cfg"), "model", None)):
                forget_initial_weights(options)
            return state
        except UserError:
            raise
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} is not a checkpoint of fairseq-train ({type(error).__name__}: {error})"
            ) from error

    @functools.wraps(load_models)
    def load_model_ensemble_and_task(filenames: list[str], *args: Any, **kwargs: Any) -> Any:
        try:
            return load_models(filenames, *args, **kwargs)
        except OSError as error:  # fairseq's own, which is a sentence
            raise UserError(str(error)) from error
        except (AssertionError, KeyError, RuntimeError) as error:
            told = _misfit(", ".join(map(str, filenames)), error)
            if told is None:
                raise
            raise told from error

    @functools.wraps(load)
    def load_checkpoint(self: Any, filename: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return load(self, filename, *args, **kwargs)
        except UserError:
            raise
        except Exception as error:
            # fairseq says "cannot load model parameters"; what it hides says why.
            told = _misfit(filename, error.__context__ or error)
            if told is None:
                raise
            raise told from error

    checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu
    checkpoint_utils.load_model_ensemble_and_task = load_model_ensemble_and_task
    Trainer.load_checkpoint = load_checkpoint


def _misfit(path: str, error: BaseException) -> UserError | None:
    """What to raise where a whole checkpoint is not what the model, or the training, needs."""
    text = str(error).strip()
    if isinstance(error, KeyError) and "_name" in text:  # of fairseq's own message for it
        return UserError(f"{path} is a model of unknown architecture: of another --user-dir?")
    if isinstance(error, KeyError):
        return UserError(f"{path} is no whole checkpoint of fairseq-train: it lacks {text}")
    if isinstance(error, UserError | AssertionError) or "state_dict" in text:
        return UserError(f"{path} does not fit: {text.splitlines()[-1].strip()}")
    return None


def save_checkpoints_whole() -> None:
    """Write checkpoints and their copies under temporary names; tell a full disk in one line."""
    from fairseq import checkpoint_utils
    from fairseq.file_io import PathManager

    copy = PathManager.copy

    @functools.wraps(copy)
    def copy_whole(src_path: str, dst_path: str, overwrite: bool = False) -> Any:
        if not overwrite:
            return copy(src_path, dst_path)
        with new_file(Path(dst_path)) as partial:
            return copy(src_path, str(partial), overwrite)

    @functools.wraps(checkpoint_utils.torch_persistent_save)
    def torch_persistent_save(obj: Any, filename: str, async_write: bool = False) -> None:
        # fairseq tries three times, and appends to what the last attempt left.
        save_tensors(Path(filename), obj)

    def verify_checkpoint_directory(save_dir: str) -> None:
        if "://" in save_dir:  # fairseq would write into a local folder of that name
            raise UserError(f"--save-dir is {save_dir}, but must be a folder of this machine")
        try:
            Path(save_dir).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=save_dir).close()
        except OSError as error:
            raise UserError(
                f"--save-dir is {save_dir}, but cannot be written in ({error.strerror})"
            ) from error

    PathManager.copy = staticmethod(copy_whole)
    checkpoint_utils.torch_persistent_save = torch_persistent_save
    checkpoint_utils.verify_checkpoint_directory = verify_checkpoint_directory
