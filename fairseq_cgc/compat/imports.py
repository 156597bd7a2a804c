"""Undo the side effects of importing fairseq, and provide what it needs of numpy."""

from __future__ import annotations

import importlib
import logging
import os
import types
import warnings
from typing import Any

import numpy as np

from fairseq_cgc.compat.replacing import replaces


def restore_numpy_calls() -> None:
    """Restore np.int, np.float, np.compat and np.percentile(interpolation=), which numpy removed:
    --num-batch-buckets, span masks and some language models need them.
    """
    np.int, np.float = int, float  # type: ignore[attr-defined]
    # --num-batch-buckets, and language models with --sample-break-mode eos.
    np.compat = types.SimpleNamespace(long=int)  # type: ignore[attr-defined]

    @replaces(np, "percentile")
    def percentile(original: Any, *args: Any, interpolation: str = "linear", **kwargs: Any) -> Any:
        return original(*args, **{"method": interpolation, **kwargs})


def silence_warnings() -> None:
    """Silence the deprecation warnings of every start."""
    for message in (
        r".*hydra\.experimental.*",
        r".*strict flag in the compose API.*",
        r".*version_base parameter.*",
        r".*Usage of deprecated keyword in package header.*",
        r".*is validated against ConfigStore schema with the same name.*",
        r".*torch\.cuda\.amp.*",
        r".*`torch\.jit\.script` is.*",
        r".*pin_memory.* argument is set as true but no accelerator.*",
        r".*tensor\.storage.*|.*TypedStorage is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message=r"(?s)\s*" + message)


def silence_missing_layers() -> None:
    """Do not print, for every new convolution on a GPU, that lightconv_cuda is missing."""
    for name in ("lightweight_convolution", "dynamic_convolution"):
        module: Any = importlib.import_module(f"fairseq.modules.{name}")
        module.print = logging.getLogger(module.__name__).debug


def import_without_debug_logging() -> None:
    """Import fairseq without turning on the debug messages of every library."""
    root = logging.getLogger()
    handlers, level, disabled = list(root.handlers), root.level, root.manager.disable
    # "Please install tensorboardX" is logged even without --tensorboard-logdir.
    logging.disable(logging.INFO)
    importlib.import_module("fairseq.models")
    importlib.import_module("fairseq.tasks")
    logging.disable(disabled)
    root.handlers[:] = handlers
    root.setLevel(level)


def restore_log_level() -> None:
    """Print no debug messages in fairseq-preprocess, -generate, -interactive and -validate.

    Their imports have set another level than they ask for.
    """
    logging.getLogger().setLevel(os.environ.get("LOGLEVEL", "INFO").upper())
