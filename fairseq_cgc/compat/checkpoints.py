"""Checkpoints: loaded without running code, saved whole, refused in one line."""

from __future__ import annotations

import tempfile
import types
from pathlib import Path
from typing import Any

import torch

from fairseq_cgc.compat.replacing import replaces
from fairseq_cgc.compat.starting import forget_initial_weights
from fairseq_cgc.support.checkpoints import safe_load, save_tensors
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import new_file


class _SafeTorch(types.ModuleType):
    """``torch`` for fairseq's module that reads checkpoints."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def load(stream: Any, **_: Any) -> dict[str, Any]:
        return safe_load(stream.name)


def read_checkpoints_safely() -> None:
    """Notice flipped bits in checkpoints; refuse damaged, hostile and foreign ones in one line."""
    from fairseq import checkpoint_utils
    from fairseq.trainer import Trainer

    checkpoint_utils.torch = _SafeTorch("torch")

    @replaces(checkpoint_utils, "load_checkpoint_to_cpu")
    def load_checkpoint_to_cpu(original: Any, path: str, *args: Any, **kwargs: Any) -> Any:
        try:
            state = original(path, *args, **kwargs)
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

    @replaces(checkpoint_utils, "load_model_ensemble_and_task")
    def load_models(original: Any, filenames: list[str], *args: Any, **kwargs: Any) -> Any:
        try:
            return original(filenames, *args, **kwargs)
        except OSError as error:  # fairseq's own message is a sentence
            raise UserError(str(error)) from error
        except (AssertionError, KeyError, RuntimeError) as error:
            _raise_misfit(", ".join(map(str, filenames)), error)
            raise

    @replaces(Trainer, "load_checkpoint")
    def load_checkpoint(original: Any, self: Any, filename: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, filename, *args, **kwargs)
        except UserError:
            raise
        except Exception as error:
            # fairseq says only "cannot load model parameters"; the exception behind it says why.
            _raise_misfit(filename, error.__context__ or error)
            raise


def _raise_misfit(path: str, error: BaseException) -> None:
    """Raise UserError if the error says that a checkpoint is not the one that is needed."""
    text = str(error).strip()
    if isinstance(error, KeyError) and "_name" in text:
        raise UserError(
            f"{path} is a model of unknown architecture: does it need another --user-dir?"
        ) from error
    if isinstance(error, KeyError):
        raise UserError(
            f"{path} is not a whole checkpoint of fairseq-train: it lacks {text}"
        ) from error
    if isinstance(error, UserError | AssertionError) or "state_dict" in text:
        raise UserError(f"{path} does not fit: {text.splitlines()[-1].strip()}") from error


def save_checkpoints_whole() -> None:
    """Write checkpoints whole or not at all when a run is killed or the disk is full."""
    from fairseq import checkpoint_utils
    from fairseq.file_io import PathManager

    @replaces(PathManager, "copy")
    def copy(original: Any, src_path: str, dst_path: str, overwrite: bool = False) -> Any:
        if not overwrite:
            return original(src_path, dst_path)
        with new_file(Path(dst_path)) as partial:
            return original(src_path, str(partial), overwrite)

    @replaces(checkpoint_utils, "torch_persistent_save")
    def torch_persistent_save(_: Any, obj: Any, filename: str, async_write: bool = False) -> None:
        # fairseq tries three times, and appends to what the last attempt left.
        save_tensors(Path(filename), obj)

    @replaces(checkpoint_utils, "verify_checkpoint_directory")
    def verify_checkpoint_directory(_: Any, save_dir: str) -> None:
        if "://" in save_dir:  # fairseq would write into a local folder of that name
            raise UserError(f"--save-dir is {save_dir}, but must be a folder of this machine")
        try:
            Path(save_dir).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=save_dir).close()
        except OSError as error:
            raise UserError(
                f"--save-dir is {save_dir}, but cannot be written in ({error.strerror})"
            ) from error
