"""A resumed training: the same weights, the same count of ``--patience``, and the same end."""

from __future__ import annotations

import functools
import importlib
import logging
import sys
from typing import Any

from torch import Tensor

from fairseq_cgc.compat.replacing import replaces

logger = logging.getLogger(__name__)

_COUNT = "early_stop"  # in a checkpoint's extra_state
_WEIGHTS = "fp32_params"  # in the optimizer's state in a checkpoint
_BAD_EPOCHS = "num_bad_epochs"  # in the schedule's state in a checkpoint


def keep_early_stopping() -> None:
    """Save the count of --patience; train no further when a finished training is started again;
    do not count the validation at an old --max-update when it is raised.

    fairseq counts in an attribute of a function, which a new process does not have. And it looks
    at ``--max-update`` and ``--patience`` after an update only, so that starting a finished
    training again would make one more.
    """
    from fairseq import checkpoint_utils
    from fairseq.trainer import Trainer

    @replaces(Trainer, "save_checkpoint")
    def save_checkpoint(
        original: Any, self: Any, filename: str, extra_state: dict[str, Any]
    ) -> Any:
        count = _early_stopping()
        if "best" in count:
            extra_state[_COUNT] = {"best": float(count["best"]), "num_runs": count["num_runs"]}
        return original(self, filename, extra_state)

    @replaces(checkpoint_utils, "load_checkpoint")
    def load_checkpoint(original: Any, cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        extra_state, epoch_itr = original(cfg, trainer, **kwargs)
        _leave_out_the_last_validation(train_module())
        if extra_state is not None:
            if not begins_anew(cfg, trainer):
                _early_stopping().update(extra_state.get(_COUNT, {}))
            reason = _why_ended(trainer)
            if reason is not None:
                logger.info("nothing left to train: %s", reason)
                trainer.cfg.optimization.max_epoch = -1  # 0 would be no limit
        return extra_state, epoch_itr


def _early_stopping() -> dict[str, Any]:
    """Where fairseq counts: ``best`` and ``num_runs``, once there was a validation."""
    return vars(train_module().should_stop_early)


@functools.cache
def _leave_out_the_last_validation(train: Any) -> None:
    """Let the validation that --max-update causes within an epoch leave no trace in a longer run.

    It counts neither for ``--patience`` nor as best: the same training with a larger
    ``--max-update`` ends as if it had not been stopped in between. Only a run that has no
    ``checkpoint_best.pt`` yet writes one.
    """
    from fairseq import checkpoint_utils

    @replaces(train, "validate_and_save")
    def validate_and_save(
        original: Any, cfg: Any, trainer: Any, task: Any, epoch_itr: Any, subsets: Any, at_end: bool
    ) -> Any:
        if not _is_cut_off(cfg, trainer.get_num_updates(), at_end):
            return original(cfg, trainer, task, epoch_itr, subsets, at_end)
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
            return original(cfg, trainer, task, epoch_itr, subsets, at_end)
        finally:
            checkpoint_utils.save_checkpoint = save
            del trainer.save_checkpoint


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
    runs, patience = _early_stopping().get("num_runs", 0), trainer.cfg.checkpoint.patience
    if 0 < patience <= runs:
        return f"{runs} validations were no better, and --patience is {patience}"
    return None


def count_plateaus() -> None:
    """Let --lr-scheduler reduce_lr_on_plateau count across restarts: fairseq does not save its
    count for --lr-patience, and saves an epoch before this schedule is told the validation's loss.
    """
    from fairseq import checkpoint_utils
    from fairseq.optim.lr_scheduler.reduce_lr_on_plateau import ReduceLROnPlateauLRSchedule

    @replaces(ReduceLROnPlateauLRSchedule, "state_dict")
    def state_dict(original: Any, self: Any) -> dict[str, Any]:
        return {**original(self), _BAD_EPOCHS: self.lr_scheduler.num_bad_epochs}

    @replaces(ReduceLROnPlateauLRSchedule, "load_state_dict")
    def load_state_dict(original: Any, self: Any, state: dict[str, Any]) -> None:
        original(self, state)
        self.lr_scheduler.num_bad_epochs = state.get(_BAD_EPOCHS, 0)

    @replaces(checkpoint_utils, "load_checkpoint")
    def load_checkpoint(original: Any, cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        extra_state, epoch_itr = original(cfg, trainer, **kwargs)
        if extra_state and not cfg.reset_lr_scheduler and not begins_anew(cfg, trainer):
            loss, place = extra_state.get("val_loss"), extra_state["train_iterator"]
            if loss is not None and place.get("iterations_in_epoch") == 0:
                trainer.lr_step(place["epoch"] - 1, loss)
        return extra_state, epoch_itr


def train_module() -> Any:
    """fairseq's command for training, as this process runs it."""
    for name in ("__main__", "__mp_main__"):
        if hasattr(sys.modules.get(name), "should_stop_early"):
            return sys.modules[name]
    return importlib.import_module("fairseq_cli.train")


def keep_master_weights() -> None:
    """Save the float32 weights of --bf16 and --fp16: runs would resume from rounded ones.

    The model's own weights are rounded copies of them. Checkpoints without the float32 weights
    load as before.
    """
    from fairseq.optim.fp16_optimizer import _FP16OptimizerMixin as Optimizer

    @replaces(Optimizer, "state_dict")
    def state_dict(original: Any, self: Any) -> dict[str, Any]:
        return {**original(self), _WEIGHTS: [weight.detach() for weight in _master_weights(self)]}

    @replaces(Optimizer, "load_state_dict")
    def load_state_dict(
        original: Any, self: Any, state: dict[str, Any], optimizer_overrides: Any = None
    ) -> None:
        original(self, state, optimizer_overrides)
        if _WEIGHTS in state:
            for weight, kept in zip(_master_weights(self), state[_WEIGHTS], strict=True):
                weight.data.copy_(kept)


def _master_weights(optimizer: Any) -> list[Tensor]:
    """One for each parameter, or, where fairseq joins them (--fp16 on a GPU), for each device."""
    weights = optimizer.fp32_params
    return list(weights.values() if isinstance(weights, dict) else weights)
