"""Training: every sentence, on a CPU too, with settings that a restart can repeat."""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from fairseq_cgc.compat.processes import refuse_to_train_alone
from fairseq_cgc.compat.replacing import replaces
from fairseq_cgc.compat.starting import forget_initial_weights
from fairseq_cgc.support.environment import has_fast_bfloat16

logger = logging.getLogger(__name__)


def keep_the_last_batch() -> None:
    """Keep the last batch, which has the longest sentences: fairseq drops it from training,
    validation and generation where its size is not a multiple of
    --required-batch-size-multiple (8).
    """
    from fairseq.data import data_utils

    @replaces(data_utils, "batch_by_size")
    def batch_by_size(original: Any, indices: Any, *args: Any, **kwargs: Any) -> list[Any]:
        indices = np.asarray(indices)
        batches = original(indices, *args, **kwargs)
        # Batches are consecutive pieces of the indices: what follows them was dropped.
        kept = sum(map(len, batches))
        if kwargs.get("fixed_shapes") is None and kept < len(indices):
            return [*batches, indices[kept:]]
        return batches


def repair_trainer() -> None:
    """Let a resumed run see the same batches, --cpu train with --fp16 and in several processes,
    and only one training write into a folder.
    """
    from fairseq.trainer import Trainer
    from omegaconf import DictConfig, open_dict

    @replaces(Trainer, "__init__")
    def __init__(original: Any, self: Any, cfg: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(cfg, DictConfig):
            refuse_to_train_alone(cfg)
            with open_dict(cfg):
                _adjust(cfg)
            _advise_on_precision(cfg)
        original(self, cfg, *args, **kwargs)

    last: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    @replaces(Trainer, "get_train_iterator")
    def get_train_iterator(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        # The last epoch's data loader is left as garbage in a cycle, which takes its queues apart
        # before it can tell its workers to end: that is waited for, 5 seconds an epoch. Workers
        # of the new one would inherit it, and complain that its processes are not their children.
        _end_workers(last.pop(self, None))
        last[self] = original(self, *args, **kwargs)
        return last[self]

    @replaces(Trainer, "train_step")
    def train_step(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except (AssertionError, RuntimeError) as error:
            # When gradients overflow (--fp16), fairseq lowers the loss scale, and then asks CUDA
            # for a zero, which a CPU cannot give.
            if not isinstance(error.__context__, OverflowError):
                raise
            self.zero_grad()
            return None


def use_attention_without_plans() -> None:
    """Keep torch from attention by cuDNN, its first choice on a Hopper GPU in half precision: it
    plans anew, for up to a second, at every batch of a size that it has not seen.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def _end_workers(epoch_iterator: Any) -> None:
    """End the data loading workers of one of fairseq's epoch iterators, or of None."""
    loader = getattr(epoch_iterator, "dataloader", None)
    # torch keeps them for the loader's next use, and has no public way to end them.
    workers: Any = getattr(loader, "_iterator", None)
    if hasattr(workers, "_shutdown_workers"):
        workers._shutdown_workers()


def _advise_on_precision(cfg: Any) -> None:
    """Log one line where a CPU would train faster in another precision."""
    common = cfg.common
    if cfg.distributed_training.distributed_rank or (torch.cuda.is_available() and not common.cpu):
        return
    fast = has_fast_bfloat16()
    if common.fp16 or common.memory_efficient_fp16:
        instead = "use --bf16" if fast else "leave it out (--bf16 is fast on newer CPUs only)"
        logger.warning("--fp16 is several times slower than float32 on a CPU; %s", instead)
    elif fast and not (common.bf16 or common.memory_efficient_bf16 or common.amp):
        logger.info("this CPU has fast bfloat16: --bf16 trains faster than float32")


def _adjust(cfg: Any) -> None:
    """Settings without which training fails, or does not resume to the same weights."""
    on_gpu = torch.cuda.is_available() and not cfg.common.cpu
    forget_initial_weights(cfg.model)  # the model is built; its checkpoints record these options
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
