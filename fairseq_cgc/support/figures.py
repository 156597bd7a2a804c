"""Pictures as PNG files, with matplotlib where it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import new_file


def check_can_draw() -> None:
    """Raise UserError if matplotlib is not installed; for commands that draw in the end."""
    try:
        importlib.import_module("matplotlib.backends.backend_agg")
    except ImportError as error:
        raise UserError("drawing needs matplotlib: pip install 'fairseq-cgc[plots]'") from error


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure of a size in inches.

    Raises:
        UserError: if matplotlib is not installed.
    """
    check_can_draw()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    # Not pyplot: it would choose a window system and keep the figure for ever.
    FigureCanvasAgg(figure)
    return figure


def as_written(words: str) -> str:
    """Escape a user's words so that matplotlib draws them as they are.

    matplotlib would read text between dollars as a formula, and leave a name that begins with ``_``
    out of a legend. Characters that are not text (file names that are not UTF-8) become ``?``.
    """
    text = words.encode("utf-8", "replace").decode("utf-8").replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{text}" if text.startswith("_") else text


def save_figure(figure: Any, output: Path) -> None:
    """Write a figure, all or nothing.

    Raises:
        UserError: if it cannot be written.
    """
    with new_file(output) as partial:
        figure.savefig(partial, format="png")


def use_log_scale(axis: Any) -> None:
    """Make the y axis logarithmic, with ticks at 1, 2 and 5 times the powers of ten."""
    from matplotlib.ticker import LogLocator

    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(LogLocator(subs=range(1, 10)))
    axis.yaxis.set_minor_formatter("")


@dataclass(frozen=True)
class Curve:
    """A value of one run over time; curves with the same name (several seeds) share a colour."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    is_training: bool


@dataclass(frozen=True)
class Panel:
    """One pair of axes of :func:`draw_panels`."""

    y_label: str
    curves: Sequence[Curve]
    log_scale: bool = False


def draw_panels(panels: Sequence[Panel], x_label: str, output: Path) -> None:
    """Draw panels side by side: validation solid, training dashed, a colour for each name.

    Raises:
        UserError: if there is no curve, or matplotlib is not installed.
    """
    names = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    if not names:
        raise UserError("no training log to draw")
    figure = new_figure(5.8 * len(panels), 4.6)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    lines = {}
    for axis, panel in zip(axes, panels, strict=True):
        for curve in panel.curves:
            (lines[curve.name],) = axis.plot(
                curve.x,
                curve.y,
                color=f"C{names.index(curve.name) % 10}",
                linestyle="--" if curve.is_training else "-",
                marker=None if curve.is_training or len(curve.x) > 60 else "o",
                markersize=3,
                linewidth=1.4,
            )
        has_training = any(curve.is_training for curve in panel.curves)
        title = "validation (solid) and training (dashed)" if has_training else "validation"
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(x_label)
        axis.set_ylabel(panel.y_label)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        if panel.log_scale:
            use_log_scale(axis)
    # Below the panels the legend covers no curve; a column is wide enough for a long name.
    figure.legend(
        [lines[name] for name in names], [as_written(name) for name in names],
        loc="outside lower center", ncols=len(panels), frameon=False,
    )  # fmt: skip
    save_figure(figure, output)
