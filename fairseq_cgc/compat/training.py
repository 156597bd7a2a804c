"""Training: every sentence, the same batches after a restart, half precision, several processes."""

from __future__ import annotations

import functools
import gc
from typing import Any

import numpy as np
import torch

from fairseq_cgc.compat.processes import refuse_to_train_alone


def keep_the_last_batch() -> None:
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


def repair_trainer() -> None:
    from fairseq.trainer import Trainer
    from omegaconf import DictConfig, open_dict

    init = Trainer.__init__

    @functools.wraps(init)
    def __init__(self: Any, cfg: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(cfg, DictConfig):
            refuse_to_train_alone(cfg)
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

    step = Trainer.train_step

    @functools.wraps(step)
    def train_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return step(self, *args, **kwargs)
        except (AssertionError, RuntimeError) as error:
            # When gradients overflow (--fp16), fairseq lowers the loss scale, and then asks CUDA
            # for a zero, which a CPU cannot give.
            if not isinstance(error.__context__, OverflowError):
                raise
            self.zero_grad()
            return None

    Trainer.__init__ = __init__
    Trainer.begin_epoch = begin_epoch_without_old_workers
    Trainer.train_step = train_step


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
