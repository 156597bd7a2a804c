"""A training that is started again stops where it would have stopped without the interruption."""

from __future__ import annotations

import functools
import importlib
import logging
import sys
from typing import Any

logger = logging.getLogger(__name__)

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
