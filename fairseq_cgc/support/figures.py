"""Figures in one style that is fit for a paper, with matplotlib where it is installed.

A figure has the width at which it is printed, so text has the size that it has in the paper.
"""

from __future__ import annotations

import importlib
import logging
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairseq_cgc.support.errors import UserError, some_names
from fairseq_cgc.support.files import new_file
from fairseq_cgc.support.fonts import STANDARD, families_for

logger = logging.getLogger(__name__)

COLUMN, PAGE = 3.3, 6.9  #: inches: the widths of one column and of two
SUFFIXES = (".png", ".pdf", ".svg")
MARKERS = "os^DvPX*<>"
SMALL = 6.0  #: points: the smallest text

#: Okabe and Ito's colours, which colour-blind readers tell apart, without the yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

_STYLE: dict[str, Any] = {
    "font.family": [STANDARD],
    "font.size": 7,
    "axes.titlesize": 7,
    "figure.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "image.cmap": "viridis",
    "text.parse_math": False,  # users' words are no formulas
    "pdf.fonttype": 42,  # TrueType, embedded
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "fairseq-cgc",  # equal figures are equal files
}
#: Without dates, for the same reason.
_METADATA: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}


def check_can_draw(output: Path | None = None) -> None:
    """For commands that draw in the end, after long work.

    Raises:
        UserError: if matplotlib is not installed, or ``output`` has another suffix than
            ``SUFFIXES``.
    """
    if output is not None and output.suffix.lower() not in SUFFIXES:
        *others, last = SUFFIXES
        raise UserError(f"--out is {output}, but must end in {', '.join(others)} or {last}")
    try:
        importlib.import_module("matplotlib.backends.backend_agg")
    except ImportError as error:
        raise UserError("drawing needs matplotlib: pip install 'fairseq-cgc[plots]'") from error


@contextmanager
def drawing(output: Path, width: float, height: float) -> Iterator[Any]:
    """Give a figure to draw in, of a size in inches; then write it, all or nothing.

    Raises:
        UserError: as :func:`check_can_draw`, or if the file cannot be written.
    """
    check_can_draw(output)
    from cycler import cycler
    from matplotlib import style

    colours = {"axes.prop_cycle": cycler(color=COLOURS)}
    # Of characters without a font, save_figure warns in one line, and of fonts nobody need know.
    font_logger = logging.getLogger("matplotlib.font_manager")
    level = font_logger.level
    with style.context({**_STYLE, **colours}, after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing|Matplotlib currently does not")
        font_logger.setLevel(logging.ERROR)
        try:
            figure = new_figure(width, height)
            yield figure
            save_figure(figure, output)
        finally:
            font_logger.setLevel(level)


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure of a size in inches; in the style within :func:`drawing`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=300, layout="constrained")
    # Not pyplot: it would choose a window system and keep the figure for ever.
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, output: Path) -> None:
    """Write a figure in the format of the suffix, with fonts for all of its characters.

    Raises:
        UserError: if it cannot be written.
    """
    from matplotlib.text import Text

    figure.draw_without_rendering()  # which makes the labels at the ticks
    texts = figure.findobj(Text)
    families, missing = families_for("".join(text.get_text() for text in texts))
    if missing:
        named = some_names([f"{character} (U+{ord(character):04X})" for character in missing])
        logger.warning("%s: no installed font has %s: there are boxes instead", output, named)
    if len(families) > 1:
        for text in texts:
            text.set_fontfamily(families)
    figure.draw_without_rendering()  # The layout needs the sizes that its first pass led to.
    _round_layout(figure)
    format_ = output.suffix[1:].lower()
    with new_file(output) as partial:
        figure.savefig(partial, format=format_, metadata=_METADATA.get(format_))


def _round_layout(figure: Any) -> None:
    """End the layout, whose last digits differ from run to run."""
    from matplotlib.transforms import Bbox

    figure.set_layout_engine("none")
    parts = list(figure.subfigs)
    for part in parts:
        part.bbox_relative.set_points(part.bbox_relative.get_points().round(5))
        parts += part.subfigs
    for axes in figure.axes:
        axes.set_position(Bbox(axes.get_position(original=True).get_points().round(5)))


def as_written(words: str) -> str:
    """A user's words on one line; ``?`` for what is no text (bytes of file names, line breaks)."""
    kinds = ("Cc", "Cs", "Zl", "Zp")
    return "".join("?" if unicodedata.category(c) in kinds else c for c in words)


def text_width(figure: Any, text: str, size: float = SMALL) -> float:
    """Inches that a text takes at a size in points."""
    drawn = figure.text(0, 0, text, fontsize=size, fontfamily=families_for(text)[0])
    width = drawn.get_window_extent(figure.canvas.get_renderer()).width / figure.dpi
    drawn.remove()
    return float(width)


def fitted(figure: Any, words: str, inches: float, size: float = SMALL) -> str:
    """A user's words, cut in their middle if they take more than some inches."""
    text = as_written(words)

    def cut(kept: int) -> str:
        return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"

    if text_width(figure, text, size) <= inches:
        return text
    low, high = 0, len(text) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(figure, cut(middle), size) <= inches:
            low = middle
        else:
            high = middle - 1
    return cut(low)


def add_legend(place: Any, handles: Sequence[Any], names: Sequence[str], **options: Any) -> Any:
    """A legend of a figure or of axes, whatever the names are.

    matplotlib would leave out those that begin with ``_``.
    """
    legend = place.legend(handles, [str(number) for number in range(len(names))], **options)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)
    return legend


def label_panels(panels: Sequence[Any], titles: Sequence[str] | None = None) -> None:
    """Write (a), (b) ... over axes or parts of a figure, with a few words where they need them."""
    for number, panel in enumerate(panels):
        letter = f"({chr(ord('a') + number % 26)}) " if len(panels) > 1 else ""
        words = f"{letter}{titles[number] if titles else ''}".strip()
        if hasattr(panel, "set_title"):
            panel.set_title(words)
        else:
            panel.suptitle(words, x=0.02, ha="left")


def use_log_scale(axis: Any) -> None:
    """Make the y axis logarithmic, with ticks at 1, 2 and 5 times the powers of ten."""
    from matplotlib.ticker import LogLocator

    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(LogLocator(subs=range(1, 10)))
    axis.yaxis.set_minor_formatter("")
