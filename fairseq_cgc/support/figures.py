"""Pictures as PNG files, with matplotlib where it is installed."""

from __future__ import annotations

import importlib
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
    """Names that users gave, such that matplotlib draws them as they are.

    Not as formulas between dollars, and in a legend also with a ``_`` in front. What is no text
    (names of files that are not UTF-8) becomes a question mark.
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
