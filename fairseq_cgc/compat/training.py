"""Training: every sentence, the same batches and weights after a restart, and where it stops."""

from __future__ import annotations

import functools
import importlib
import logging
import sys
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from fairseq_cgc.compat.processes import refuse_to_train_alone
from fairseq_cgc.compat.starting import forget_initial_weights
from fairseq_cgc.support.environment import has_fast_bfloat16

logger = logging.getLogger(__name__)


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
            _advise_on_precision(cfg)
        init(self, cfg, *args, **kwargs)

    get_train_iterator = Trainer.get_train_iterator
    last: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    @functools.wraps(get_train_iterator)
    def get_train_iterator_without_old_workers(self: Any, *args: Any, **kwargs: Any) -> Any:
        # The last epoch's data loader is left as garbage in a cycle, which takes its queues apart
        # before it can tell its workers to end: that is waited for, 5 seconds an epoch. Workers
        # of the new one would inherit it, and complain that its processes are not their children.
        _end_workers(last.pop(self, None))
        last[self] = get_train_iterator(self, *args, **kwargs)
        return last[self]

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
    Trainer.get_train_iterator = get_train_iterator_without_old_workers
    Trainer.train_step = train_step


def _end_workers(epoch_iterator: Any) -> None:
    """End what an epoch's iterator of fairseq has started to load its data; it may be None."""
    loader = getattr(epoch_iterator, "dataloader", None)
    # What torch keeps for the loader's next use, where it has workers; theirs is no public way.
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


_KEY = "early_stop"  # of a checkpoint's extra_state


def keep_early_stopping() -> None:
    """Keep the count of ``--patience`` in the checkpoints, and do not train past the end.

    fairseq counts in an attribute of a function, which a new process does not have. And it looks
    at ``--max-update`` and ``--patience`` after an update only, so that starting a finished
    training again would make one more.
    """
    from fairseq import checkpoint_utils
    from fairseq.trainer import Trainer

    save = Trainer.save_checkpoint

    @functools.wraps(save)
    def save_checkpoint(self: Any, filename: str, extra_state: dict[str, Any]) -> Any:
        counter = vars(_should_stop_early())
        if "best" in counter:
            extra_state[_KEY] = {"best": float(counter["best"]), "num_runs": counter["num_runs"]}
        return save(self, filename, extra_state)

    load = checkpoint_utils.load_checkpoint

    @functools.wraps(load)
    def load_checkpoint(cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        extra_state, epoch_itr = load(cfg, trainer, **kwargs)
        _leave_out_the_last_validation()
        if extra_state is not None:
            if not begins_anew(cfg, trainer):
                vars(_should_stop_early()).update(extra_state.get(_KEY, {}))
            reason = _why_ended(trainer)
            if reason is not None:
                logger.info("nothing left to train: %s", reason)
                trainer.cfg.optimization.max_epoch = -1  # 0 would be no limit
        return extra_state, epoch_itr

    Trainer.save_checkpoint = save_checkpoint
    checkpoint_utils.load_checkpoint = load_checkpoint


def _leave_out_the_last_validation() -> None:
    """Let the validation that --max-update causes within an epoch leave no trace in a longer run.

    It counts neither for ``--patience`` nor as best: the same training with a larger
    ``--max-update`` ends as if it had not been stopped in between. Only a run that has no
    ``checkpoint_best.pt`` yet writes one.
    """
    from fairseq import checkpoint_utils

    module = train_module()
    validate_and_save = module.validate_and_save
    if hasattr(validate_and_save, "leaves_out_the_last"):
        return

    def validate_and_save_uncounted(
        cfg: Any, trainer: Any, task: Any, epoch_itr: Any, subsets: list[str], end_of_epoch: bool
    ) -> Any:
        if not _is_cut_off(cfg, trainer.get_num_updates(), end_of_epoch):
            return validate_and_save(cfg, trainer, task, epoch_itr, subsets, end_of_epoch)
        cfg = cfg.copy()  # the trainer's own is what checkpoints record
        cfg.checkpoint.patience = -1
        save, write = checkpoint_utils.save_checkpoint, trainer.save_checkpoint
        # fairseq's function finds its "best" at its own name, which is the function below.
        is_first = not hasattr(save, "best")

        @functools.wraps(save)
        def save_uncounted(cfg: Any, trainer: Any, epoch_itr: Any, val_loss: Any) -> Any:
            return save(cfg, trainer, epoch_itr, val_loss if is_first else None)

        def write_uncounted(filename: str, extra_state: dict[str, Any]) -> Any:
            if is_first:
                extra_state.pop("best", None)
            return write(filename, extra_state)

        checkpoint_utils.save_checkpoint, trainer.save_checkpoint = save_uncounted, write_uncounted
        try:
            return validate_and_save(cfg, trainer, task, epoch_itr, subsets, end_of_epoch)
        finally:
            checkpoint_utils.save_checkpoint = save
            del trainer.save_checkpoint

    validate_and_save_uncounted.leaves_out_the_last = True  # type: ignore[attr-defined]
    module.validate_and_save = validate_and_save_uncounted


def _is_cut_off(cfg: Any, updates: int, end_of_epoch: bool) -> bool:
    """Whether --max-update, and nothing else, has fairseq validate after this update."""
    intervals = cfg.checkpoint.save_interval_updates, cfg.dataset.validate_interval_updates
    return (
        not end_of_epoch
        and 0 < cfg.optimization.max_update <= updates
        and not any(interval > 0 and updates % interval == 0 for interval in intervals)
    )


def begins_anew(cfg: Any, trainer: Any) -> bool:
    """Whether fine-tuning, or one of the --reset options, begins a training of its own."""
    return cfg.reset_meters or cfg.reset_dataloader or trainer.get_num_updates() == 0


def _why_ended(trainer: Any) -> str | None:
    updates, limit = trainer.get_num_updates(), trainer.cfg.optimization.max_update
    if 0 < limit <= updates:
        return f"{updates} updates were made, and --max-update is {limit}"
    runs, patience = vars(_should_stop_early()).get("num_runs", 0), trainer.cfg.checkpoint.patience
    if 0 < patience <= runs:
        return f"{runs} validations were no better, and --patience is {patience}"
    return None


def _should_stop_early() -> Any:
    return train_module().should_stop_early


def train_module() -> Any:
    """fairseq's command for training, as this process runs it."""
    for name in ("__main__", "__mp_main__"):
        if hasattr(sys.modules.get(name), "should_stop_early"):
            return sys.modules[name]
    return importlib.import_module("fairseq_cli.train")


_WEIGHTS = "fp32_params"  # of the optimizer's state in a checkpoint


def keep_master_weights() -> None:
    """Keep the weights that ``--bf16`` and ``--fp16`` update in the optimizer's state.

    The model's own weights are rounded copies of them. fairseq saves only those, and a resumed
    training goes on from there. Checkpoints without the float32 weights load as before.
    """
    from fairseq.optim.fp16_optimizer import _FP16OptimizerMixin as Optimizer

    state_dict, load_state_dict = Optimizer.state_dict, Optimizer.load_state_dict

    @functools.wraps(state_dict)
    def state_dict_with_weights(self: Any) -> dict[str, Any]:
        return {**state_dict(self), _WEIGHTS: [weight.detach() for weight in _master_weights(self)]}

    @functools.wraps(load_state_dict)
    def load_with_weights(
        self: Any, state: dict[str, Any], optimizer_overrides: Any = None
    ) -> None:
        load_state_dict(self, state, optimizer_overrides)
        if _WEIGHTS in state:
            for weight, kept in zip(_master_weights(self), state[_WEIGHTS], strict=True):
                weight.data.copy_(kept)

    Optimizer.state_dict = state_dict_with_weights
    Optimizer.load_state_dict = load_with_weights


def _master_weights(optimizer: Any) -> list[Tensor]:
    """One for each parameter, or, where fairseq joins them (--fp16 on a GPU), for each device."""
    weights = optimizer.fp32_params
    return list(weights.values() if isinstance(weights, dict) else weights)
