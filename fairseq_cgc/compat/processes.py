"""Several processes: joined if torchrun started them, and never two trainings in one folder."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from pathlib import Path
from typing import Any, TextIO

import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from fairseq_cgc.compat.replacing import replaces
from fairseq_cgc.support.errors import UserError

logger = logging.getLogger(__name__)

#: Environment variables that torchrun sets for the processes that it starts.
_PLACE = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")
_ADVICE = "start them with torchrun --nproc-per-node N -m fairseq_cli.train DATA ..."
_LOST = re.compile(
    r"connection (closed|reset|refused)( by peer)?|broken pipe|timed? ?out|nccl.*error",
    re.IGNORECASE,
)
_LOCK = ".training.lock"
_locks: dict[Path, TextIO] = {}


def join_processes() -> None:
    """Join the processes of one torchrun, without GPUs too; report a lost process in one line.

    fairseq reads torchrun's variables only where it sees several GPUs. Elsewhere each process
    would train alone, into the same folder.
    """
    from fairseq.distributed import utils

    @replaces(utils, "call_main")
    def call_main(original: Any, cfg: Any, main: Any, **kwargs: Any) -> None:
        _take_place(cfg)
        try:
            original(cfg, main, **kwargs)
        except ProcessRaisedException as error:  # of one that fairseq started for a GPU
            name = re.escape(f"{UserError.__module__}.{UserError.__qualname__}")
            if told := re.search(rf"^{name}: (.+)$", str(error), re.MULTILINE):
                raise UserError(told[1]) from None
            raise
        except ProcessExitedException as error:
            raise _lost(str(error)) from error
        except RuntimeError as error:
            found = _LOST.search(str(error))
            if found and cfg.distributed_training.distributed_world_size > 1:
                raise _lost(found[0]) from error
            raise


def _lost(reason: str) -> UserError:
    return UserError(
        f"another process of this training ended, or cannot be reached ({reason}); start all "
        "again: they continue from the last checkpoint"
    )


def _take_place(cfg: Any) -> None:
    training = cfg.distributed_training
    if training.distributed_init_method is not None or training.pipeline_model_parallel:
        return
    on_gpu = torch.cuda.is_available() and not cfg.common.cpu
    if _processes() > 1 and all(name in os.environ for name in _PLACE):
        training.distributed_init_method = "env://"
        training.distributed_world_size = _processes()
        training.distributed_rank = int(os.environ["RANK"])
        training.distributed_no_spawn = True
        place = int(os.environ.get("LOCAL_RANK", training.distributed_rank))
        training.device_id = place % torch.cuda.device_count() if on_gpu else 0
        if not on_gpu:
            training.distributed_backend = "gloo"
    elif (
        training.distributed_world_size > 1
        and not torch.cuda.is_available()
        and not any(name in os.environ for name in ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"))
    ):
        raise UserError(
            f"--distributed-world-size is {training.distributed_world_size}, but there is no GPU, "
            f"and fairseq starts processes for GPUs only; {_ADVICE}"
        )


def refuse_to_train_alone(cfg: Any) -> None:
    """Check that this process is not one of several that each train a model of their own.

    Raises:
        UserError: if several were started and did not join, or another one trains in the folder.
    """
    training = cfg.distributed_training
    if _processes() > 1 and "RANK" in os.environ and training.distributed_world_size == 1:
        raise UserError(
            f"WORLD_SIZE is {_processes()}, but this process would train alone, and so would the "
            f"others, into one folder; {_ADVICE}, or unset WORLD_SIZE and RANK"
        )
    # fairseq-train has made the folder by now; other programs' trainers may never need one.
    save_dir = Path(cfg.checkpoint.save_dir)
    if training.distributed_rank == 0 and not cfg.checkpoint.no_save and save_dir.is_dir():
        _keep_others_out(save_dir)


def _processes() -> int:
    number = os.environ.get("WORLD_SIZE", "1")
    return int(number) if number.isdecimal() else 1


def _keep_others_out(save_dir: Path) -> None:
    """Lock a folder until this process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    path = save_dir.resolve() / _LOCK
    if path in _locks:  # by this process; opening and closing it again would unlock it
        return
    try:
        stream = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        # Not flock: data loading workers would inherit it, and outlive a killed training.
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        stream.seek(0)
        owner = stream.read().strip() or "unknown"
        stream.close()
        raise UserError(
            f"--save-dir is {save_dir}, but another training (process {owner}) writes there; wait "
            "for it, give another folder, or, to train with both, "
            + _ADVICE.removeprefix("start them ")
        ) from None
    except OSError as error:  # some network file systems have no locks
        logger.warning("%s cannot be locked (%s): start only one training there", save_dir, error)
    _locks[path] = stream
    with contextlib.suppress(OSError):  # a full disk is reported when it matters
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
