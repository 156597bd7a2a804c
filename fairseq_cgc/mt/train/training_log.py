"""Training curves from fairseq's logs (``--log-format json --log-file FILE``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from fairseq_cgc.inference.text.lines import read_lines
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.panels import Curve, Panel, draw_panels

#: The share of the first epoch's updates that a whole epoch has at least.
_WHOLE = 0.9


@dataclass(frozen=True)
class Point:
    """The values in one line of fairseq's log; ``None`` where it has no such value."""

    updates: int
    epoch: int
    loss: float | None
    """The training criterion, in bits per subword (label smoothing included)."""
    nll_loss: float | None
    """Negative log-likelihood, in bits per subword."""
    ppl: float | None
    """2 to the power of ``nll_loss``."""
    bleu: float | None
    """0 to 100; only on validation data with ``--eval-bleu``."""
    wps: float | None
    """Target subwords per second."""
    wpb: float | None
    """Target subwords per update."""
    train_wall: float | None
    """Seconds spent in updates, without validation and waiting for data."""


@dataclass(frozen=True)
class TrainingLog:
    """One training, each list in the order of updates."""

    name: str
    train: list[Point]
    """Means over every epoch."""
    train_inner: list[Point]
    """Means over every ``--log-interval`` updates."""
    valid: list[Point]


@dataclass(frozen=True)
class Speed:
    """How long a training took."""

    updates: int
    seconds: float
    """Spent in updates, in whole seconds per epoch; interrupted epochs count once."""
    tokens: float
    """Target subwords."""

    @property
    def tokens_per_second(self) -> float:
        """0 where nothing was measured."""
        return self.tokens / self.seconds if self.seconds else 0.0


def training_speed(log: TrainingLog) -> Speed:
    """Add up the epochs of a training."""
    seconds = tokens = 0.0
    updates = 0
    for point in log.train:
        seconds += point.train_wall or 0.0
        tokens += (point.wpb or 0.0) * (point.updates - updates)
        updates = point.updates
    return Speed(updates, seconds, tokens)


def training_nll(log: TrainingLog) -> float | None:
    """The training loss over the last whole epoch; None where no epoch has ended.

    An epoch is whole if it has about as many updates as the first one.
    """
    found, before = None, 0
    for point in log.train:
        if point.updates - before >= _WHOLE * log.train[0].updates:
            found = point.nll_loss
        before = point.updates
    return found


def read_log(path: Path, name: str | None = None) -> TrainingLog:
    """Read a log file, or what fairseq-train printed with ``--log-format json``.

    Where a run was resumed and repeated updates, the later values count.

    Args:
        path: UTF-8 text.
        name: name of the run for legends; by default that of the file.

    Raises:
        UserError: if the file is unreadable or holds no values in JSON.
    """
    # By updates, because fairseq writes lines several times (it adds a log handler every epoch).
    points: dict[str, dict[int, Point]] = {"train_": {}, "": {}, "valid_": {}}
    for line in read_lines(path):
        values = _json_in(line)
        for prefix, found in points.items():
            # "num_updates" without a prefix is only in lines within an epoch.
            if f"{prefix}num_updates" in values:
                point = _point(values, prefix)
                found[point.updates] = point
    if not any(points.values()):
        raise UserError(
            f"{path} holds no training values: train with --log-format json --log-file FILE"
        )
    ordered = {
        prefix: [found[updates] for updates in sorted(found)] for prefix, found in points.items()
    }
    return TrainingLog(name or path.stem, ordered["train_"], ordered[""], ordered["valid_"])


def draw_curves(logs: Sequence[TrainingLog], output: Path) -> None:
    """Draw loss, and BLEU if any run has it, against updates.

    Where several systems are compared, their losses are often too close to be told apart. Another
    panel then has them minus the mean of the first system's.

    Args:
        logs: runs to compare; those of one name (several seeds) share a colour.
        output: file to write.

    Raises:
        UserError: if matplotlib is not installed or there is no run.
    """
    losses, scores = [], []
    for log in logs:
        # The means over epochs say too little where there are few of them.
        train = log.train if len(log.train) > 2 else log.train_inner or log.train
        losses += [_curve(log.name, train, "nll_loss", is_training=True)]
        losses += [_curve(log.name, log.valid, "nll_loss")]
        scores += [_curve(log.name, log.valid, "bleu")]
    panels = [Panel("negative log-likelihood (bits per subword)", losses)]
    differences = _differences(losses)
    if any(curve.x for curve in differences if curve.name != logs[0].name):
        panels.append(Panel("difference from the first (bits per subword)", differences))
    if any(curve.x for curve in scores):
        panels.append(Panel("BLEU (0 to 100)", scores))
    draw_panels(panels, "updates", output)


def _json_in(line: str) -> dict[str, Any]:
    """The JSON object at the end of a log line; empty if there is none."""
    try:
        values = json.loads(line[line.index("{") :])
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _point(values: dict[str, Any], prefix: str) -> Point:
    def number(key: str) -> float | None:
        value = values.get(prefix + key)  # fairseq writes numbers as strings
        return None if value is None else float(value)

    names = ("loss", "nll_loss", "ppl", "bleu", "wps", "wpb", "train_wall")
    return Point(
        int(values[f"{prefix}num_updates"]),
        int(values["epoch"]),
        **{name: number(name) for name in names},
    )


def _curve(name: str, points: Sequence[Point], key: str, *, is_training: bool = False) -> Curve:
    """One value of the points that have it."""
    known = [point for point in points if getattr(point, key) is not None]
    updates = [point.updates for point in known]
    return Curve(name, updates, [getattr(point, key) for point in known], is_training)


def _differences(losses: Sequence[Curve]) -> list[Curve]:
    """The curves minus the mean of those of their kind with the first name, where it has values."""
    firsts: dict[tuple[bool, float], list[float]] = {}
    for curve in losses:
        if curve.name == losses[0].name:
            for x, y in zip(curve.x, curve.y, strict=True):
                firsts.setdefault((curve.is_training, x), []).append(y)
    means = {place: fmean(values) for place, values in firsts.items()}
    found = []
    for curve in losses:
        kind = curve.is_training
        both = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if (kind, x) in means]
        differences = [y - means[kind, x] for x, y in both]
        found.append(Curve(curve.name, [x for x, _ in both], differences, kind))
    return found
