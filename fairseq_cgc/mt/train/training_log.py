"""Training curves from fairseq's logs (``--log-format json --log-file FILE``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_cgc.inference.text.lines import read_lines
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.figures import new_figure, save_figure


@dataclass(frozen=True)
class Point:
    """What fairseq logged at one moment; ``None`` where it logged no such value."""

    updates: int
    epoch: int
    loss: float | None
    """The training criterion, in bits a subword (with label smoothing, where it is used)."""
    nll_loss: float | None
    """Negative log-likelihood, in bits a subword."""
    ppl: float | None
    """2 to the power of ``nll_loss``."""
    bleu: float | None
    """0 to 100; on validation data with ``--eval-bleu`` only."""
    wps: float | None
    """Target subwords processed in a second."""
    wpb: float | None
    """Target subwords in an update."""
    train_wall: float | None
    """Seconds spent in updates (waiting for data and validation not counted)."""


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
    """What a training took."""

    updates: int
    seconds: float
    """Spent in updates; interrupted epochs count once (fairseq rounds each to whole seconds)."""
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


def read_log(path: Path, name: str | None = None) -> TrainingLog:
    """Read a log file, or what fairseq-train printed with ``--log-format json``.

    Where a run was interrupted and resumed, the later values count.

    Args:
        path: UTF-8 text.
        name: of the run, for legends; by default that of the file.

    Raises:
        UserError: if the file is unreadable or holds no values in JSON.
    """
    # By updates, because fairseq may write a line several times (one log handler for each epoch).
    points: dict[str, dict[int, Point]] = {"train_": {}, "": {}, "valid_": {}}
    for line in read_lines(path):
        values = _json_in(line)
        for prefix, found in points.items():
            # A summary of an epoch has no plain "num_updates", a line within an epoch no other.
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
    """Draw loss, and BLEU if any run has it, against updates into a PNG file.

    Args:
        logs: runs to compare; those of one name (several seeds) share a colour.
        output: file to write.

    Raises:
        UserError: if matplotlib is not installed or there is no run.
    """
    if not logs:
        raise UserError("no training log to draw")

    names = list(dict.fromkeys(log.name for log in logs))
    has_bleu = any(point.bleu is not None for log in logs for point in log.valid)
    panels = 2 if has_bleu else 1
    figure = new_figure(6.4 * panels, 4.6)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    colours = {name: f"C{number % 10}" for number, name in enumerate(names)}
    unnamed = set(names)
    for log in logs:
        colour = colours[log.name]
        label = log.name if log.name in unnamed else None
        unnamed.discard(log.name)
        # Of a training that is short in epochs, their means say too little.
        train = log.train if len(log.train) > 2 else log.train_inner or log.train
        # The legend has every name once, also of a run without validation.
        only = None if log.valid else label
        _line(axes[0], train, "nll_loss", color=colour, linestyle="--", label=only)
        _line(axes[0], log.valid, "nll_loss", color=colour, marker="o", label=label)
        if has_bleu:
            _line(axes[1], log.valid, "bleu", color=colour, marker="o")
    axes[0].set_title("validation (solid) and training (dashed)")
    axes[0].set_ylabel("negative log-likelihood (bits per subword)")
    if has_bleu:
        axes[1].set_title("validation")
        axes[1].set_ylabel("BLEU (0 to 100)")
    for axis in axes:
        axis.set_xlabel("updates")
        axis.grid(alpha=0.3)
    # Below the panels, where it covers no curve; a column is wide enough for a long name.
    figure.legend(loc="outside lower center", ncols=panels, frameon=False)
    save_figure(figure, output)


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

    return Point(
        updates=int(values[f"{prefix}num_updates"]),
        epoch=int(values["epoch"]),
        loss=number("loss"),
        nll_loss=number("nll_loss"),
        ppl=number("ppl"),
        bleu=number("bleu"),
        wps=number("wps"),
        wpb=number("wpb"),
        train_wall=number("train_wall"),
    )


def _line(axis: Any, points: Sequence[Point], key: str, **style: Any) -> None:
    """Draw one value of the points that have it; a marker only where points are few."""
    known = [(point.updates, getattr(point, key)) for point in points]
    known = [(updates, value) for updates, value in known if value is not None]
    if known:
        if len(known) > 60:
            style["marker"] = None
        axis.plot(*zip(*known, strict=True), markersize=3, linewidth=1.4, **style)
