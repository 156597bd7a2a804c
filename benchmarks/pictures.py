"""Pictures of the results: the convolution over lengths and batches, beam search over batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.ticker import NullLocator

from fairseq_cgc.support.figures import new_figure, save_figure, use_log_scale

_CONTENDERS = ("fairseq LightConv", "fairseq DynamicConv", "plain", "gated")
_MARKERS = "os^DvPX*<>"


def draw_op(rows: list[dict[str, Any]], out: Path) -> None:
    """Write ``time.png`` (over T) and ``batch.png`` (over B), for the largest kernel in float32."""
    rows = [row for row in rows if row["precision"] == "float32"]
    widest = max(row["kernel_size"] for row in rows)
    rows = [row for row in rows if row["kernel_size"] == widest]
    over_time: dict[int, dict[str, Any]] = {}
    for row in rows:  # the rows over T, which all have about as many tokens, come first
        over_time.setdefault(row["time"], row)
    figure = new_figure(9, 4)
    left, right = figure.subplots(1, 2)
    _draw(left, list(over_time.values()), "time", _nanoseconds)
    left.set(title=f"Forward and backward, K {widest}", xlabel="T", ylabel="ns a token")
    _draw(right, list(over_time.values()), "time", lambda row, name: row["peak_mib"][name])
    right.set(title="Peak memory", xlabel="T", ylabel="MiB")
    save_figure(figure, out / "time.png")
    figure = new_figure(4.5, 4)
    axes = figure.subplots()
    _draw(axes, [row for row in rows if row["time"] == 28], "batch", _nanoseconds)
    axes.set(title=f"Forward and backward, T 28, K {widest}", xlabel="B", ylabel="ns a token")
    save_figure(figure, out / "batch.png")


def draw_decode(rows: list[dict[str, Any]], out: Path) -> None:
    """Write ``decode.png``: sentences a second over the batch size, a panel for each model."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure = new_figure(5 * len(models), 4)
    for axes, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        chosen = [row for row in rows if row["model"] == model]
        sizes = [f"{row['size']:,}\n{row['unit']}" for row in chosen]
        for name, marker in zip(chosen[0]["seconds"], _MARKERS, strict=False):
            speeds = [row["sentences"] / sum(row["seconds"][name]) for row in chosen]
            axes.plot(sizes, speeds, marker=marker, label=name)
        axes.set(title=f"{model}, beam 6", xlabel="batch", ylabel="sentences/s")
        _finish(axes)
    save_figure(figure, out / "decode.png")


def _nanoseconds(row: dict[str, Any], name: str) -> float:
    """Time of both passes for one token."""
    return 1e9 * row["forward_backward"][name]["median"] / (row["time"] * row["batch"])


def _draw(
    axes: Any, rows: list[dict[str, Any]], over: str, value: Callable[[dict[str, Any], str], float]
) -> None:
    rows = sorted(rows, key=lambda row: row[over])
    sizes = [row[over] for row in rows]
    for name, marker in zip(_CONTENDERS, _MARKERS, strict=False):
        axes.plot(sizes, [value(row, name) for row in rows], marker=marker, label=name)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    _finish(axes)


def _finish(axes: Any) -> None:
    use_log_scale(axes)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
