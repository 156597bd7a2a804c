"""A training in half precision whose every gate is looked at."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import toy
from fairseq.optim.dynamic_loss_scaler import DynamicLossScaler
from fairseq_cli.train import cli_main
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from fairseq_cgc.core import ContextGate

_USER_DIR = toy.ROOT / "fairseq_cgc"
_FIRST_SCALE = 2**20
#: A loss scale that soon overflows, and is tried again after every 50 updates without overflow.
OPTIONS = {
    "fp16": ["--fp16", "--fp16-init-scale", str(_FIRST_SCALE), "--fp16-scale-window", "50"],
    "bf16": ["--bf16"],
    "memory-efficient-bf16": ["--memory-efficient-bf16"],
}


@dataclass
class Training:
    """What was seen of a training, of all its runs together."""

    updates: int = 0
    gates: int = 0
    """Times that a gate was computed."""
    not_finite: int = 0
    """Updates in which one was not finite."""
    overflows: int = 0
    scales: tuple[float, float] = (1.0, 1.0)
    """Of the loss: the first, and the lowest."""
    first_loss: float = float("nan")
    last_loss: float = float("nan")


def train(data: Path, save_dir: Path, precision: str, updates: int) -> Training:
    """Train the toy model to an update in this process, going on from a checkpoint.

    Args:
        data: binarised toy corpus.
        save_dir: for checkpoints and the log.
        precision: one of :data:`OPTIONS`.
        updates: at which to stop.
    """
    save_dir.mkdir(parents=True, exist_ok=True)
    log, notes = save_dir / "train.log", save_dir / "gates.json"
    seen = json.loads(notes.read_text()) if notes.exists() else {"gates": 0, "bad": 0, "over": 0}
    arguments = [
        str(data), "--user-dir", str(_USER_DIR), "--arch", "lightconv_cgc_iwslt_de_en",
        *toy.SIZES, *toy.OPTIMIZER, *OPTIONS[precision], "--save-dir", str(save_dir),
        "--max-update", str(updates), "--clip-norm", "1", "--lr", "0.002",
        "--save-interval-updates", "500", "--keep-interval-updates", "1",
        "--no-epoch-checkpoints", "--save-interval", "100000", "--disable-validation",
        "--num-workers", "0", "--log-interval", "2",
        "--log-format", "json", "--log-file", str(log),
    ]  # fmt: skip
    try:
        with (
            patch.object(sys, "argv", ["fairseq-train", *arguments]),
            _told_to_the_log(),
            _watched_gates(seen),
            _counted_overflows(seen),
        ):
            cli_main()
    finally:
        notes.write_text(json.dumps(seen))
    told = _read(log)
    scales = [float(line["loss_scale"]) for line in told if "loss_scale" in line]
    scales = [_FIRST_SCALE, *scales] if scales else [1.0]
    losses = [float(line["loss"]) for line in told] or [float("nan")]
    return Training(
        updates=max((int(line["num_updates"]) for line in told), default=0),
        gates=seen["gates"],
        not_finite=seen["bad"],
        overflows=seen["over"],
        scales=(scales[0], min(scales)),
        first_loss=losses[0],
        last_loss=losses[-1],
    )


@contextmanager
def _told_to_the_log() -> Iterator[None]:
    """fairseq writes its numbers as log lines of this level, which pytest switches off."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        for handler in root.handlers[:]:
            if handler not in handlers:  # of the log file
                root.removeHandler(handler)
                handler.close()


@contextmanager
def _watched_gates(seen: dict[str, int]) -> Iterator[None]:
    """Count the gates computed while training, and those that are not finite."""

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, ContextGate) and module.training:
            seen["gates"] += 1
            seen["bad"] += not bool(output.isfinite().all())

    handle = register_module_forward_hook(look)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _counted_overflows(seen: dict[str, int]) -> Iterator[None]:
    check = DynamicLossScaler.check_overflow

    def check_overflow(self: DynamicLossScaler, norm: float) -> None:
        try:
            check(self, norm)
        except OverflowError:
            seen["over"] += 1
            raise

    with patch.object(DynamicLossScaler, "check_overflow", check_overflow):
        yield


def _read(log: Path) -> list[dict[str, Any]]:
    """The numbers that a training wrote every few updates."""
    found = [
        json.loads(line) for line in log.read_text("utf-8").splitlines() if line.startswith('{"')
    ]
    return [values for values in found if "num_updates" in values]
