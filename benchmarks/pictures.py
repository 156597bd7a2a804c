"""Scaling curves of the convolution and of beam search as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.ticker import LogLocator, StrMethodFormatter

from fairseq_cgc.support.figures import new_figure, save_figure

_MARKS = dict(
    zip(("fairseq LightConv", "fairseq DynamicConv", "plain", "gated"), "os^D", strict=True)
)


def draw_op(rows: list[dict[str, Any]], out: Path) -> None:
    """Write ``time.png`` (over T, each kernel size) and ``batch.png`` (over B at one length)."""
    rows = [row for row in rows if row["precision"] == "float32"]
    widest = max(row["kernel_size"] for row in rows)
    by_time: dict[int, dict[str, Any]] = {}
    for row in rows:  # those over T, all of about as many tokens, come before those over B
        if row["kernel_size"] == widest:
            by_time.setdefault(row["time"], row)
    over_time = list(by_time.values())
    figure = new_figure(9, 4)
    left, right = figure.subplots(1, 2)
    _curves(left, over_time, "time", lambda row, name: _nanoseconds_a_token(row, name))
    left.set(title=f"Forward and backward, K {widest}", xlabel="T", ylabel="ns a token")
    _curves(right, over_time, "time", lambda row, name: row["peak_mib"][name])
    right.set(title="Peak memory", xlabel="T", ylabel="MiB")
    save_figure(figure, out / "time.png")
    sweep = [row for row in rows if row["kernel_size"] == widest and row["time"] == 28]
    figure = new_figure(4.5, 4)
    axes = figure.subplots()
    _curves(axes, sweep, "batch", lambda row, name: _nanoseconds_a_token(row, name))
    axes.set(title=f"Forward and backward, T 28, K {widest}", xlabel="B", ylabel="ns a token")
    save_figure(figure, out / "batch.png")


def draw_decode(rows: list[dict[str, Any]], out: Path) -> None:
    """Write ``decode.png``: sentences a second over the batch's size, a panel for each model."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure = new_figure(5 * len(models), 4)
    for axes, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        chosen = [row for row in rows if row["model"] == model]
        sizes = [f"{row['size']:,}\n{row['unit']}" for row in chosen]
        for name, mark in zip(chosen[0]["seconds"], "osD^vPX*<>", strict=False):
            speeds = [row["sentences"] / sum(row["seconds"][name]) for row in chosen]
            axes.plot(sizes, speeds, marker=mark, label=name)
        axes.set(title=f"{model}, beam 6", xlabel="a batch", ylabel="sentences/s", yscale="log")
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    save_figure(figure, out / "decode.png")


def _nanoseconds_a_token(row: dict[str, Any], name: str) -> float:
    return 1e9 * row["forward_backward"][name]["median"] / (row["time"] * row["batch"])


def _curves(axes: Any, rows: list[dict[str, Any]], over: str, value: Any) -> None:
    rows = sorted(rows, key=lambda row: row[over])
    for name, mark in _MARKS.items():
        values = [value(row, name) for row in rows]
        axes.plot([row[over] for row in rows], values, marker=mark, label=name)
    axes.set(xscale="log", yscale="log")
    axes.set_xticks([row[over] for row in rows], [str(row[over]) for row in rows], minor=False)
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.grid(alpha=0.3)
    axes.legend()
