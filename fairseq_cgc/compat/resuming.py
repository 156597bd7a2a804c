"""A training that is started again stops where it would have stopped without the interruption."""

from __future__ import annotations

import functools
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
    def save_checkpoint(self: Any, filename: str, extra_state: dict[str, Any]) -> None:
        counter = vars(_should_stop_early())
        if "best" in counter:
            extra_state[_KEY] = {"best": float(counter["best"]), "num_runs": counter["num_runs"]}
        save(self, filename, extra_state)

    load = checkpoint_utils.load_checkpoint

    @functools.wraps(load)
    def load_checkpoint(cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        extra_state, epoch_itr = load(cfg, trainer, **kwargs)
        if extra_state is not None:
            # Fine-tuning, or one of the --reset options, begins a training of its own.
            is_new = cfg.reset_meters or cfg.reset_dataloader or trainer.get_num_updates() == 0
            if not is_new:
                vars(_should_stop_early()).update(extra_state.get(_KEY, {}))
            reason = _why_ended(trainer)
            if reason is not None:
                logger.info("nothing left to train: %s", reason)
                trainer.cfg.optimization.max_epoch = -1  # 0 would be no limit
        return extra_state, epoch_itr

    Trainer.save_checkpoint = save_checkpoint
    checkpoint_utils.load_checkpoint = load_checkpoint


def _why_ended(trainer: Any) -> str | None:
    updates, limit = trainer.get_num_updates(), trainer.cfg.optimization.max_update
    if 0 < limit <= updates:
        return f"{updates} updates were made, and --max-update is {limit}"
    runs, patience = vars(_should_stop_early()).get("num_runs", 0), trainer.cfg.checkpoint.patience
    if 0 < patience <= runs:
        return f"{runs} validations were no better, and --patience is {patience}"
    return None


def _should_stop_early() -> Any:
    """fairseq's function, in the module that this process runs it from."""
    for name in ("__main__", "__mp_main__", "fairseq_cli.train"):
        function = getattr(sys.modules.get(name), "should_stop_early", None)
        if function is not None:
            return function
    from fairseq_cli import train

    return train.should_stop_early
