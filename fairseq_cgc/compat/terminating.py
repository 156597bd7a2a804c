"""A training that a scheduler ends (SIGTERM) saves its last update, and goes on from there later.

fairseq does not handle signals: what was trained since the last save is lost.
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

from fairseq_cgc.compat.training import begins_anew, train_module

logger = logging.getLogger(__name__)

STATUS = 128 + signal.SIGTERM
_KEY = "terminated"  # of a checkpoint's extra_state


class _Request:
    """SIGTERM: whether this process has received it, and whether all know that one has."""

    received = False
    agreed = False


class _Terminated(Exception):
    """Breaks off a validation, which may take longer than the scheduler waits."""


def save_on_sigterm() -> None:
    """On SIGTERM, finish the update, save ``checkpoint_last.pt`` and exit with status 143.

    Several processes stop after the same update, whichever of them receives the signal. What
    fairseq would have done after that update (validate, save, count for ``--patience``) is done
    when the training is started again.
    """
    from fairseq import checkpoint_utils
    from fairseq.distributed import utils
    from fairseq.trainer import Trainer

    aggregate = Trainer._aggregate_logging_outputs

    @functools.wraps(aggregate)
    def aggregate_logging_outputs(self: Any, outputs: Any, *sums: Any, **kwargs: Any) -> Any:
        # Processes receive the signal at different times; what they sum anyway tells them all.
        outputs, (*sums, received) = aggregate(
            self, outputs, *sums, float(_Request.received), **kwargs
        )
        _Request.agreed = bool(received > 0)
        return outputs, sums

    valid_step = Trainer.valid_step

    @functools.wraps(valid_step)
    def valid_step_unless_terminated(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = valid_step(self, *args, **kwargs)
        if _must_stop(self):
            raise _Terminated
        return output

    load = checkpoint_utils.load_checkpoint

    @functools.wraps(load)
    def load_checkpoint(cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        extra_state, epoch_itr = load(cfg, trainer, **kwargs)
        _heed_sigterm()
        left = (extra_state or {}).get(_KEY)
        if left is not None and not begins_anew(cfg, trainer):
            _catch_up(trainer, epoch_itr, left["end_of_epoch"])
        return extra_state, epoch_itr

    call = utils.call_main

    @functools.wraps(call)
    def call_main(cfg: Any, main: Any, **kwargs: Any) -> None:
        before = signal.getsignal(signal.SIGTERM)
        _handle_sigterm(_tell_processes)
        try:
            call(cfg, main, **kwargs)
        except ProcessExitedException:
            if _Request.received:
                sys.exit(STATUS)
            raise
        finally:
            _handle_sigterm(before or signal.SIG_DFL)  # none: it was not set from Python

    Trainer._aggregate_logging_outputs = aggregate_logging_outputs
    Trainer.valid_step = valid_step_unless_terminated
    checkpoint_utils.load_checkpoint = load_checkpoint
    utils.call_main = call_main


def _heed_sigterm() -> None:
    """From now on, finish the update and save."""
    module = train_module()
    if not hasattr(module.validate_and_save, "__wrapped__"):
        module.validate_and_save = _unless_terminated(module.validate_and_save)
        if hasattr(os, "register_at_fork") and hasattr(signal, "sigwaitinfo"):
            os.register_at_fork(after_in_child=_leave_sigterm_to_the_parent)
    _Request.received = _Request.agreed = False
    _handle_sigterm(_receive)


def _unless_terminated(validate_and_save: Any) -> Any:
    @functools.wraps(validate_and_save)
    def validate_and_save_unless_terminated(
        cfg: Any, trainer: Any, task: Any, epoch_itr: Any, subsets: list[str], end_of_epoch: bool
    ) -> Any:
        try:
            if not _must_stop(trainer):
                return validate_and_save(cfg, trainer, task, epoch_itr, subsets, end_of_epoch)
        except _Terminated:
            pass
        return _save_and_exit(cfg, trainer, epoch_itr, end_of_epoch)

    return validate_and_save_unless_terminated


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
    """What would have followed the update after which the last run was terminated."""
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
    """What fairseq's first process does, which waits for those that it has started for GPUs."""
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
