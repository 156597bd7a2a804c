"""SIGTERM, as schedulers send it to all processes of a job: nothing is lost or repeated."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import demo_training
import pytest
import torch
import warm
from fairseq import checkpoint_utils
from fairseq.trainer import Trainer

from fairseq_cgc.support.checkpoints import safe_load

if TYPE_CHECKING:  # the processes that import this file may find another conftest
    from conftest import Trained

pytestmark = [pytest.mark.reliability, pytest.mark.xdist_group("reliability")]

#: Nothing is learnt, so that --patience counts.
OPTIONS = [
    *("--encoder-embed-dim", "8", "--encoder-ffn-embed-dim", "8", "--encoder-layers", "1"),
    *("--decoder-ffn-embed-dim", "8", "--decoder-layers", "1"),
    *("--encoder-kernel-size-list", "[3]", "--decoder-kernel-size-list", "[3]"),
    *("--dropout", "0.1", "--weight-dropout", "0.1", "--lr", "1e-9", "--patience", "4"),
    *("--update-freq", "2", "--max-tokens", "400", "--num-workers", "1"),
    *("--save-interval-updates", "4", "--max-epoch", "3", "--keep-best-checkpoints", "2"),
]


def train(save_dir: Path, log: Path, data: Path, moment: tuple[str, int] | None) -> warm.Result:
    """Train in a process group of its own, which is signalled at a moment.

    Args:
        moment: a method of the trainer, and the number of updates that were made before it.
    """
    command = ["train", data, "--save-dir", save_dir, *demo_training.MODEL, *OPTIONS]
    process = warm.context().Process(target=_train, args=(moment, [*map(str, command)], str(log)))
    process.start()
    return warm.end(process, log)


def _train(moment: tuple[str, int] | None, command: list[str], log: str) -> None:
    os.setsid()
    if moment is not None:
        method, updates = moment
        call, save = getattr(Trainer, method), checkpoint_utils.torch_persistent_save

        def signal_and_call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self.get_num_updates() == updates:
                os.killpg(0, signal.SIGTERM)
                checkpoint_utils.torch_persistent_save = signal_and_save
            return call(self, *args, **kwargs)

        def signal_and_save(*args: Any, **kwargs: Any) -> None:
            for impatient in (signal.SIGTERM, signal.SIGINT):
                os.killpg(0, impatient)
            save(*args, **kwargs)

        setattr(Trainer, method, signal_and_call)
    warm.run_here(command, log)


def state(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, but for times and paths."""
    content = safe_load(path)
    extra = content["extra_state"]
    kept = {key: extra.get(key) for key in ("train_iterator", "val_loss", "best", "early_stop")}
    del content["cfg"], content["extra_state"]
    # Each start adds an entry to the history.
    return {**content, "optimizer_history": content["optimizer_history"][-1], "extra_state": kept}


def assert_same(ours: Any, theirs: Any) -> None:
    """Bit for bit."""
    if isinstance(theirs, torch.Tensor):
        assert torch.equal(ours, theirs)
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert_same(ours[key], theirs[key])
    else:
        assert ours == theirs


@pytest.mark.slow
def test_a_training_terminated_again_and_again_is_as_a_whole_one(
    trained: Trained, tmp_path: Path
) -> None:
    whole, often = tmp_path / "whole", tmp_path / "often"
    result = train(whole, tmp_path / "whole.log", trained.data, None)
    assert result.status == 0, result.output[-3000:]
    per_epoch = state(whole / "checkpoint1.pt")["optimizer_history"]["num_updates"]
    moments = [
        ("train_step", 0),
        ("train_step", 2),
        ("valid_step", 4),
        ("train_step", per_epoch - 1),  # the last of the epoch
        ("valid_step", per_epoch),
        ("train_step", 15),  # of 16: --patience ends the training after the next validation
    ]
    for number, moment in enumerate(moments):
        result = train(often, tmp_path / f"{number}.log", trained.data, moment)
        method, updates = moment
        stopped = updates + (method == "train_step")
        assert result.status == 143, result.output[-3000:]
        _, after = result.output.split(f"SIGTERM: stopped after update {stopped}, saved in")
        assert after.count("\n") == 1
        left = safe_load(often / "checkpoint_last.pt")
        assert left["optimizer_history"][-1]["num_updates"] == stopped
    result = train(often, tmp_path / "end.log", trained.data, None)
    assert result.status == 0, result.output[-3000:]
    assert {path.name for path in often.iterdir()} == {path.name for path in whole.iterdir()}
    for path in whole.glob("*.pt"):
        assert_same(state(often / path.name), state(path))
