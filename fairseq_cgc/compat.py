"""What makes fairseq 0.12.3.1 run on today's Python, torch, numpy and hydra.

The only room that works around versions. Each entry of :data:`FIXES` names what it mends and
when it is needed; :func:`apply` makes those changes once per process. What cannot be mended
from inside a plugin is listed, with the way around it, in the README.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import logging
import os
import pickle
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fairseq_cgc.core.errors import UserError


@dataclass(frozen=True)
class Fix:
    """One repair: what it mends, when it is needed, and how it is made."""

    name: str
    mends: str
    needed: Callable[[], bool]
    make: Callable[[], None]


_applied: dict[str, bool] = {}


def apply() -> dict[str, bool]:
    """Make every repair that this process needs, once.

    Returns:
        The name of each repair and whether it was needed.
    """
    for fix in FIXES:
        if fix.name not in _applied:
            _applied[fix.name] = fix.needed()
            if _applied[fix.name]:
                fix.make()
    return dict(_applied)


def safe_load(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint to CPU memory without running any code that it may contain.

    Raises:
        UserError: if the file is missing, truncated, no checkpoint, or asks for a class
            that is not on the short list of allowed ones.
    """
    _allow_checkpoint_classes()
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


def _allow_checkpoint_classes() -> None:
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


def _explain_unreadable_checkpoints() -> None:
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


def _copy_checkpoints_whole() -> None:
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


def _keep_the_last_batch() -> None:
    from fairseq.data import data_utils

    batch_by_size = data_utils.batch_by_size

    @functools.wraps(batch_by_size)
    def batch_all_by_size(indices: Any, *args: Any, **kwargs: Any) -> list[Any]:
        indices = np.asarray(indices)
        batches = batch_by_size(indices, *args, **kwargs)
        if kwargs.get("fixed_shapes") is None:
            # Batches are consecutive pieces of the indices: what follows them was dropped.
            kept = sum(map(len, batches))
            batches = [*batches, *([indices[kept:]] if kept < len(indices) else [])]
        return batches

    data_utils.batch_by_size = batch_all_by_size


def _repair_options() -> None:
    from fairseq import options

    parse = options.parse_args_and_arch

    @functools.wraps(parse)
    def parse_args_and_arch(
        parser: argparse.ArgumentParser, input_args: list[str] | None = None, **kwargs: Any
    ) -> Any:
        if parser.get_default("task") is None:
            parser.set_defaults(task="translation")  # fairseq-validate names no default
        parsed = parse(parser, input_args, **kwargs)
        args = parsed[0] if isinstance(parsed, tuple) else parsed
        given = sys.argv[1:] if input_args is None else input_args
        if getattr(args, "bf16", False) and "--tpu" not in given:
            args.tpu = False  # fairseq takes every bf16 run for one on a TPU
        if hasattr(args, "distributed_world_size"):
            _refuse_torchrun_without_gpu()
        return parsed

    options.parse_args_and_arch = parse_args_and_arch


def _refuse_torchrun_without_gpu() -> None:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1 and "RANK" in os.environ and not torch.cuda.is_available():
        raise UserError(
            f"WORLD_SIZE is {processes}, set by torchrun, but there is no GPU, and fairseq would "
            f"train {processes} separate models into one folder; start each process by hand, "
            "with WORLD_SIZE and RANK unset: --distributed-world-size N --distributed-rank R "
            "--distributed-no-spawn --distributed-backend gloo "
            "--distributed-init-method tcp://127.0.0.1:PORT"
        )


def _repair_trainer() -> None:
    from fairseq.trainer import Trainer
    from omegaconf import DictConfig, open_dict

    init = Trainer.__init__

    @functools.wraps(init)
    def __init__(self: Any, cfg: Any, *args: Any, **kwargs: Any) -> None:
        _refuse_torchrun_without_gpu()
        if isinstance(cfg, DictConfig):
            with open_dict(cfg):
                _adjust(cfg)
        init(self, cfg, *args, **kwargs)

    begin_epoch = Trainer.begin_epoch

    @functools.wraps(begin_epoch)
    def begin_epoch_without_old_workers(self: Any, epoch: int) -> None:
        # The data loader of the last epoch is garbage in a cycle; the new loader's workers
        # would inherit it and complain at its end that its processes are not their children.
        gc.collect()
        begin_epoch(self, epoch)

    Trainer.__init__ = __init__
    Trainer.begin_epoch = begin_epoch_without_old_workers


def _adjust(cfg: Any) -> None:
    """Settings without which training fails, or does not resume to the same weights."""
    on_gpu = torch.cuda.is_available() and not cfg.common.cpu
    if cfg.common.fp16 and not on_gpu:
        cfg.common.fp16_no_flatten_grads = True  # flattening asks CUDA for a device
    # Else the batches of every epoch are those of the first one of this process, and a
    # resumed run sees other batches than one that was never interrupted.
    cfg.dataset.update_epoch_batch_itr = True
    if cfg.distributed_training.distributed_world_size > 1:
        # The other way, a broadcast of the first process's copy, is refused by torch.load.
        cfg.checkpoint.load_checkpoint_on_all_dp_ranks = True
        if not on_gpu and cfg.distributed_training.ddp_backend in ("c10d", "pytorch_ddp"):
            cfg.distributed_training.ddp_backend = "legacy_ddp"  # the others want a device


def _repair_user_dir() -> None:
    from fairseq import utils
    from fairseq.models import import_models

    import_module = utils.import_user_module
    here = Path(__file__).resolve().parent

    @functools.wraps(import_module)
    def import_user_module(args: Any) -> None:
        path = getattr(args, "user_dir", None)
        if path is not None and Path(path).name == here.name and Path(path).exists():
            if Path(path).resolve() != here:
                raise UserError(
                    f"two copies of {here.name}: --user-dir is {path}, but Python already "
                    f"imported the one in {here}; pass that one, or uninstall it"
                )
            # fairseq takes a package that is imported for one whose models are registered.
            import_models(str(here / "models"), f"{here.name}.models")
            return
        import_module(args)

    utils.import_user_module = import_user_module


def _is_fairseq_command() -> bool:
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    names = (Path(sys.argv[0]).name if sys.argv else "", main.name if main else "")
    return names[0].startswith("fairseq-") or names[1].startswith("fairseq_cli")


def _show_user_errors_in_one_line() -> None:
    show = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        reason: BaseException | None = error
        while reason is not None and not isinstance(reason, UserError):
            reason = reason.__cause__ or reason.__context__
        if reason is None:
            show(kind, error, traceback)
        else:
            print(f"error: {reason}", file=sys.stderr)

    sys.excepthook = excepthook
    # hydra handles exceptions itself and prints those of this class in one line.
    hydra_utils: Any = importlib.import_module("hydra._internal.utils")
    hydra_utils.CompactHydraException = (hydra_utils.CompactHydraException, UserError)


def _restore_numpy_aliases() -> None:
    np.int, np.float = int, float  # type: ignore[attr-defined]


def _silence_warnings() -> None:
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


def _import_without_debug_logging() -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    importlib.import_module("fairseq.models")
    importlib.import_module("fairseq.tasks")
    root.handlers[:] = handlers
    root.setLevel(level)


def _always() -> bool:
    return True


FIXES = (
    Fix(
        "logging",
        "importing fairseq turns on debug messages of every library",
        lambda: "fairseq.models" not in sys.modules,
        _import_without_debug_logging,
    ),
    Fix("warnings", "deprecation warnings at every start", _always, _silence_warnings),
    Fix(
        "numpy aliases",
        "np.int and np.float in fairseq's speech and span-mask code, gone since numpy 1.24",
        lambda: not hasattr(np, "int"),
        _restore_numpy_aliases,
    ),
    Fix(
        "safe checkpoints",
        "torch.load refuses fairseq's own checkpoints; a short list of harmless classes is "
        "allowed, everything else stays refused",
        _always,
        _allow_checkpoint_classes,
    ),
    Fix(
        "checkpoint errors",
        "damaged and hostile checkpoints end in a traceback",
        _always,
        _explain_unreadable_checkpoints,
    ),
    Fix(
        "checkpoint copies",
        "a run killed while it saves leaves a broken checkpoint_last.pt",
        _always,
        _copy_checkpoints_whole,
    ),
    Fix(
        "last batch",
        "the last batch, of the longest sentences, is dropped from training, validation and "
        "generation where its size is no multiple of --required-batch-size-multiple (8)",
        _always,
        _keep_the_last_batch,
    ),
    Fix(
        "options",
        "--bf16 sets --tpu; fairseq-validate has no default --task; torchrun without a GPU "
        "trains separate models into one folder",
        _always,
        _repair_options,
    ),
    Fix(
        "trainer",
        "resuming sees other batches; --cpu --fp16 and --cpu with several processes fail",
        _always,
        _repair_trainer,
    ),
    Fix("user-dir", "two copies of this package are hard to tell", _always, _repair_user_dir),
    Fix(
        "one-line errors",
        "fairseq's commands end in a traceback for mistakes in options",
        _is_fairseq_command,
        _show_user_errors_in_one_line,
    ),
)
