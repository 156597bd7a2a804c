#!/usr/bin/env python3
"""Pictures of the results: the convolution over lengths and batches, beam search over batches.

python benchmarks/pictures.py benchmarks/results/DATE-cpu op decode    from the JSON there
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from fairseq_cgc.support.figures import (
    COLUMN,
    MARKERS,
    PAGE,
    add_legend,
    drawing,
    label_panels,
    use_log_scale,
)

_SHORT = {"sentences": "sent.", "tokens": "tokens"}
_CONTENDERS = ("fairseq LightConv", "fairseq DynamicConv", "plain", "gated")


def draw_op(rows: list[dict[str, Any]], out: Path) -> None:
    """Write ``time.png`` (over T) and ``batch.png`` (over B), for the largest kernel in float32."""
    rows = [row for row in rows if row["precision"] == "float32"]
    widest = max(row["kernel_size"] for row in rows)
    rows = [row for row in rows if row["kernel_size"] == widest]
    over_time: dict[int, dict[str, Any]] = {}
    for row in rows:  # the rows over T, which all have about as many tokens, come first
        over_time.setdefault(row["time"], row)
    with drawing(out / "time.png", PAGE, 2.4) as figure:
        left, right = figure.subplots(1, 2)
        _draw(left, list(over_time.values()), "time", _nanoseconds)
        left.set(xlabel="length T (tokens)", ylabel="forward and backward (ns per token)")
        _draw(right, list(over_time.values()), "time", lambda row, name: row["peak_mib"][name])
        right.set(xlabel="length T (tokens)", ylabel="peak memory (MiB)")
        label_panels([left, right])
        _legend(figure, _CONTENDERS)
    with drawing(out / "batch.png", COLUMN, 2.6) as figure:
        axes = figure.subplots()
        _draw(axes, [row for row in rows if row["time"] == 28], "batch", _nanoseconds)
        axes.set(xlabel="batch B (sentences)", ylabel="forward and backward (ns per token)")
        _legend(figure, _CONTENDERS, columns=2)


def draw_decode(rows: list[dict[str, Any]], out: Path) -> None:
    """Write ``decode.png``: sentences a second over the batch size, a panel for each model."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    names = list(dict.fromkeys(name for row in rows for name in row["seconds"]))
    width = PAGE if len(models) > 1 else COLUMN
    columns = 3 if len(models) > 1 else 1
    with drawing(out / "decode.png", width, 2.4 + 0.13 * len(names) / columns) as figure:
        panels = figure.subplots(1, len(models), squeeze=False)[0]
        for axes, model in zip(panels, models, strict=True):
            chosen = [row for row in rows if row["model"] == model]
            sizes = [f"{row['size']:,}\n{_SHORT[row['unit']]}" for row in chosen]
            for number, name in enumerate(names):
                if name in chosen[0]["seconds"]:  # CTranslate2 takes models without gates only
                    speeds = [row["sentences"] / sum(row["seconds"][name]) for row in chosen]
                    axes.plot(sizes, speeds, **_line(number))
            axes.set_xlabel("batch (sentences or tokens)")
            _finish(axes)
        panels[0].set_ylabel("sentences per second (beam 6)")
        label_panels(panels, models)
        _legend(figure, names, columns)


def _line(number: int) -> dict[str, Any]:
    return {"color": f"C{number}", "marker": MARKERS[number % len(MARKERS)]}


def _legend(figure: Any, names: Sequence[str], columns: int = 4) -> None:
    handles = [Line2D([], [], **_line(number)) for number in range(len(names))]
    add_legend(figure, handles, names, loc="outside lower center", ncols=columns)


def _nanoseconds(row: dict[str, Any], name: str) -> float:
    """Time of both passes for one token."""
    return 1e9 * row["forward_backward"][name]["median"] / (row["time"] * row["batch"])


def _draw(
    axes: Any, rows: list[dict[str, Any]], over: str, value: Callable[[dict[str, Any], str], float]
) -> None:
    rows = sorted(rows, key=lambda row: row[over])
    sizes = [row[over] for row in rows]
    for number, name in enumerate(_CONTENDERS):
        axes.plot(sizes, [value(row, name) for row in rows], **_line(number))
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    _finish(axes)


def _finish(axes: Any) -> None:
    use_log_scale(axes)
    axes.grid()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for section in sys.argv[2:]:
        measured = json.loads((folder / f"{section}.json").read_text(encoding="utf-8"))
        {"op": draw_op, "decode": draw_decode}[section](measured["rows"], folder)
