"""A training that a scheduler ends (SIGTERM) saves its last update, and later continues from it.

fairseq does not handle signals: what was trained since the last save would be lost.
"""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import signal
import sys
import threading
from typing import Any, NoReturn

import torch
from torch.multiprocessing import ProcessExitedException

from fairseq_cgc.compat.replacing import replaces
from fairseq_cgc.compat.resuming import begins_anew, train_module

logger = logging.getLogger(__name__)

STATUS = 128 + signal.SIGTERM
_KEY = "terminated"  # of a checkpoint's extra_state


class _Request:
    """SIGTERM: whether this process received it, and whether all processes know that one did."""

    received = False
    agreed = False


class _Terminated(Exception):
    """Ends a validation early: it may take longer than the scheduler waits."""


def save_on_sigterm() -> None:
    """On SIGTERM, finish the update, save checkpoint_last.pt and exit with status 143.

    Several processes stop after the same update, whichever of them receives the signal. What
    fairseq would have done after that update (validate, save, count for ``--patience``) is done
    when the training is started again.
    """
    from fairseq import checkpoint_utils
    from fairseq.distributed import utils
    from fairseq.trainer import Trainer

    @replaces(Trainer, "_aggregate_logging_outputs")
    def aggregate(original: Any, self: Any, outputs: Any, *sums: Any, **kwargs: Any) -> Any:
        # Processes receive the signal at different times; what they sum anyway tells them all.
        received = float(_Request.received)
        outputs, (*sums, received) = original(self, outputs, *sums, received, **kwargs)
        _Request.agreed = bool(received > 0)
        return outputs, sums

    @replaces(Trainer, "valid_step")
    def valid_step(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(self, *args, **kwargs)
        if _must_stop(self):
            raise _Terminated
        return output

    @replaces(checkpoint_utils, "load_checkpoint")
    def load_checkpoint(original: Any, cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        extra_state, epoch_itr = original(cfg, trainer, **kwargs)
        _stop_at_request(train_module())
        _Request.received = _Request.agreed = False
        _handle_sigterm(_receive)
        left = (extra_state or {}).get(_KEY)
        if left is not None and not begins_anew(cfg, trainer):
            _catch_up(trainer, epoch_itr, left["end_of_epoch"])
        return extra_state, epoch_itr

    @replaces(utils, "call_main")
    def call_main(original: Any, cfg: Any, main: Any, **kwargs: Any) -> None:
        before = signal.getsignal(signal.SIGTERM)
        _handle_sigterm(_tell_processes)
        try:
            original(cfg, main, **kwargs)
        except ProcessExitedException:
            if _Request.received:
                sys.exit(STATUS)
            raise
        finally:
            _handle_sigterm(before or signal.SIG_DFL)  # none: it was not set from Python


@functools.cache
def _stop_at_request(train: Any) -> None:
    """Let fairseq stop where it would validate and save, if it was asked to."""

    @replaces(train, "validate_and_save")
    def validate_and_save(
        original: Any, cfg: Any, trainer: Any, task: Any, epoch_itr: Any, subsets: Any, at_end: bool
    ) -> Any:
        try:
            if not _must_stop(trainer):
                return original(cfg, trainer, task, epoch_itr, subsets, at_end)
        except _Terminated:
            pass
        return _save_and_exit(cfg, trainer, epoch_itr, at_end)

    if hasattr(os, "register_at_fork") and hasattr(signal, "sigwaitinfo"):
        os.register_at_fork(after_in_child=_leave_sigterm_to_the_parent)


def _must_stop(trainer: Any) -> bool:
    return _Request.agreed if trainer.data_parallel_world_size > 1 else _Request.received


def _save_and_exit(cfg: Any, trainer: Any, epoch_itr: Any, end_of_epoch: bool) -> NoReturn:
    from fairseq import checkpoint_utils
    from fairseq.distributed import utils

    for number in (signal.SIGTERM, signal.SIGINT):
        _handle_sigterm(signal.SIG_IGN, number)
    only_last = cfg.checkpoint.copy()
    only_last.no_epoch_checkpoints, only_last.save_interval_updates = True, 0
    save = trainer.save_checkpoint
    trainer.save_checkpoint = lambda filename, extra_state: save(
        filename, {**extra_state, _KEY: {"end_of_epoch": end_of_epoch}}
    )
    path = checkpoint_utils.save_checkpoint(only_last, trainer, epoch_itr, None)
    if trainer.is_data_parallel_master:
        logger.info(
            "SIGTERM: stopped after update %d, %s",
            trainer.get_num_updates(),
            f"saved in {path}" if path else "and nothing was saved, as your options say",
        )
    if torch.distributed.is_initialized():  # what starts several ends all when one has ended
        torch.distributed.barrier(utils.get_global_group())
    sys.exit(STATUS)


def _catch_up(trainer: Any, epoch_itr: Any, end_of_epoch: bool) -> None:
    """Do what would have followed the update after which the last run was terminated."""
    from fairseq.data.iterators import CountingIterator

    cfg = trainer.cfg
    next_epoch, next_itr = epoch_itr.epoch, epoch_itr._next_epoch_itr
    if end_of_epoch:  # as it was then: in the epoch before, with nothing left of it
        epoch_itr.epoch, epoch_itr._cur_epoch_itr = next_epoch - 1, CountingIterator([])
    else:
        epoch_itr._cur_epoch_itr = next_itr
    losses, should_stop = train_module().validate_and_save(
        cfg, trainer, trainer.task, epoch_itr, cfg.dataset.valid_subset.split(","), end_of_epoch
    )
    if end_of_epoch:
        trainer.lr_step(epoch_itr.epoch, losses[0])
    epoch_itr.epoch, epoch_itr._cur_epoch_itr = next_epoch, None
    if should_stop:
        cfg.optimization.max_epoch = -1  # 0 would be no limit


def _receive(*_: Any) -> None:
    _Request.received = True  # nothing else is safe here: a handler runs between any two steps


def _tell_processes(*_: Any) -> None:
    """The handler of fairseq's first process: pass SIGTERM to those it has started for GPUs."""
    _Request.received = True
    started = [child for child in multiprocessing.active_children() if not child.daemon]
    for child in started:
        child.terminate()
    if not started:
        _handle_sigterm(signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def _handle_sigterm(handler: Any, number: int = signal.SIGTERM) -> None:
    if threading.current_thread() is threading.main_thread():  # elsewhere Python refuses
        signal.signal(number, handler)


def _leave_sigterm_to_the_parent() -> None:
    """In a data loading worker: end when the parent says so, not when the scheduler does.

    Schedulers signal every process of a job. Without its workers the update cannot be finished.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
