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
