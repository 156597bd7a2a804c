"""What a resumed training knows of the run before it."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.dataclass.configs import CheckpointConfig
from fairseq.optim import FairseqOptimizer
from fairseq.optim.lr_scheduler.reduce_lr_on_plateau import ReduceLROnPlateauLRSchedule
from omegaconf import OmegaConf

import fairseq_cgc.models  # noqa: F401  (makes the repairs)

LOSS = 1.0  # of every validation


@pytest.fixture(autouse=True)
def _sigterm():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


class Optimizer(FairseqOptimizer):
    def __init__(self) -> None:
        super().__init__(None)
        self._optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


class Trainer:
    """As much of fairseq's as loading a checkpoint needs."""

    checkpoint_suffix = ""
    cfg = OmegaConf.create({"optimization": {"max_update": 0}, "checkpoint": {"patience": -1}})

    def __init__(self, saved: dict[str, Any] | None, patience: int) -> None:
        self.saved, self.optimizer = saved, Optimizer()
        options = SimpleNamespace(
            lr=[0.01], lr_patience=patience, lr_shrink=0.1, lr_threshold=1e-4, warmup_updates=0,
            warmup_init_lr=-1, maximize_best_checkpoint_metric=False,
        )  # fmt: skip
        self.schedule = ReduceLROnPlateauLRSchedule(options, self.optimizer)
        self.task = None

    def load_checkpoint(self, *_: Any, **__: Any) -> dict[str, Any] | None:
        if self.saved is None:
            return None
        self.schedule.load_state_dict(self.saved["schedule"])
        self.optimizer.set_lr(self.saved["lr"])
        return self.saved["extra_state"]

    def get_train_iterator(self, epoch: int, **_: Any) -> Any:
        return SimpleNamespace(epoch=epoch, load_state_dict=lambda state: None)

    def get_num_updates(self) -> int:
        return 0 if self.saved is None else 10

    def lr_step(self, epoch: int, val_loss: float | None = None) -> None:
        self.schedule.step(epoch, val_loss)

    def save(self, next_epoch: int) -> dict[str, Any]:
        """fairseq saves at the end of an epoch, and then calls :meth:`lr_step`."""
        place = {"epoch": next_epoch, "iterations_in_epoch": 0}
        return {
            "schedule": self.schedule.state_dict(),
            "lr": self.optimizer.get_lr(),
            "extra_state": {"train_iterator": place, "val_loss": LOSS},
        }


@pytest.mark.parametrize("patience", [0, 1, 2])
def test_a_plateau_is_counted_across_restarts(patience):
    epochs, saved = range(1, 8), None
    whole, rates, rates_in_pieces = Trainer(None, patience), [], []
    for epoch in epochs:
        rates.append(whole.optimizer.get_lr())
        whole.lr_step(epoch, LOSS)

        piece = Trainer(saved, patience)  # ends after each epoch
        checkpoint_utils.load_checkpoint(OmegaConf.structured(CheckpointConfig()), piece)
        rates_in_pieces.append(piece.optimizer.get_lr())
        saved = piece.save(epoch + 1)
    assert rates_in_pieces == pytest.approx(rates)
    assert rates[patience + 1] == 0.01 and rates[patience + 2] == pytest.approx(0.001)
