"""Training curves: panels of values over time, several runs in each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.figures import (
    COLUMN,
    MARKERS,
    PAGE,
    add_legend,
    drawing,
    fitted,
    label_panels,
    use_log_scale,
)

if TYPE_CHECKING:
    import numpy as np

_START = 0.1  # of a training: values so early may lie outside the panel
_MARKS = 8  # markers on a curve


@dataclass(frozen=True)
class Curve:
    """A value of one run over time; curves with the same name (several seeds) are averaged."""

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

    Of curves with one name, the mean is drawn, with a band of one sample standard deviation to
    either side; where some of them have ended, the mean is that of the others. The first tenth of
    a training lies outside the panel where it would take more than half of its height.

    Raises:
        UserError: if there is no curve, matplotlib is not installed, or ``output`` cannot be
            written.
    """
    from matplotlib.lines import Line2D

    names = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    if not names:
        raise UserError("no training log to draw")
    columns = len(panels)
    rows = math.ceil(len(names) / columns)
    width = min(COLUMN * columns, PAGE)
    with drawing(output, width, 2.3 + 0.14 * rows) as figure:
        axes = figure.subplots(1, columns, squeeze=False)[0]
        is_averaged = False
        for axis, panel in zip(axes, panels, strict=True):
            means = [_mean(curves) for curves in _by_kind(panel.curves)]
            for mean in means:
                _draw(axis, mean, names.index(mean.name))
                is_averaged |= mean.several
            axis.set_xlabel(x_label)
            # On two lines where one would be longer than the axis.
            is_long = len(panel.y_label) > 30
            axis.set_ylabel(panel.y_label.replace(" (", "\n(") if is_long else panel.y_label)
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.grid()
            if panel.log_scale:
                use_log_scale(axis)
            if limits := _limits(means, panel.log_scale):
                axis.set_ylim(*limits)
        label_panels(axes)
        # Outside the panels the legends cover no curve.
        handles = [
            Line2D([], [], color=f"C{number}", marker=MARKERS[number % len(MARKERS)])
            for number in range(len(names))
        ]
        shown = [fitted(figure, name, width / columns - 0.6, 6.5) for name in names]
        add_legend(figure, handles, shown, loc="outside lower center", ncols=columns)
        kinds = list(dict.fromkeys(curve.is_training for panel in panels for curve in panel.curves))
        styles: list[Any] = [Line2D([], [], color="0.3", **_style(kind)) for kind in sorted(kinds)]
        words = [("validation", "training")[kind] for kind in sorted(kinds)]
        if is_averaged:
            from matplotlib.patches import Patch

            styles.append(Patch(color="0.3", alpha=0.2, linewidth=0))
            words.append("mean ± s.d. of seeds")
        add_legend(figure, styles, words, loc="outside upper center", ncols=len(words))


@dataclass(frozen=True)
class _Mean:
    """Curves of one name and kind, averaged at every x that one of them has."""

    name: str
    is_training: bool
    x: np.ndarray
    y: np.ndarray
    deviation: np.ndarray  # 0 where there is one curve
    several: bool


def _by_kind(curves: Iterable[Curve]) -> list[list[Curve]]:
    kinds: dict[tuple[str, bool], list[Curve]] = {}
    for curve in curves:
        kinds.setdefault((curve.name, curve.is_training), []).append(curve)
    return list(kinds.values())


def _mean(curves: Sequence[Curve]) -> _Mean:
    import numpy as np

    drawn = [curve for curve in curves if len(curve.x)]
    x = np.unique([value for curve in drawn for value in curve.x])
    table = np.ma.masked_invalid(
        [np.interp(x, curve.x, curve.y, left=np.nan, right=np.nan) for curve in drawn]
        or np.empty((1, 0))
    )
    y = table.mean(0).filled(np.nan)
    freedom = np.maximum(table.count(0) - 1, 1)
    deviation = np.sqrt(((table - y) ** 2).sum(0) / freedom).filled(0)
    first = curves[0]
    return _Mean(first.name, first.is_training, x, y, deviation, len(drawn) > 1)


def _style(is_training: bool) -> dict[str, Any]:
    return {"linestyle": "--", "linewidth": 0.8} if is_training else {"linestyle": "-"}


def _draw(axis: Any, mean: _Mean, number: int) -> None:
    colour, marker = f"C{number}", MARKERS[number % len(MARKERS)]
    marked = {} if mean.is_training else {"marker": marker, "markevery": _every(len(mean.x))}
    axis.plot(mean.x, mean.y, color=colour, **_style(mean.is_training), **marked)
    if mean.several:
        low, high = mean.y - mean.deviation, mean.y + mean.deviation
        axis.fill_between(mean.x, low, high, color=colour, alpha=0.2, linewidth=0)


def _every(points: int) -> int:
    return max(1, round(points / _MARKS))


def _limits(means: Sequence[_Mean], log_scale: bool) -> tuple[float, float] | None:
    """The limits of y; None where nothing is to be seen."""
    import numpy as np

    scale, back = (np.log, np.exp) if log_scale else (float, float)
    longest = max((mean.x[-1] for mean in means if len(mean.x)), default=0)
    early: list[float] = []
    late: list[float] = []
    for mean in means:
        for x, y, deviation in zip(mean.x, mean.y, mean.deviation, strict=True):
            values = late if x > max(mean.x[0], _START * longest) else early
            for value in (y - deviation, y, y + deviation):
                if math.isfinite(value) and (value > 0 or not log_scale):
                    values.append(scale(value))
    if not early + late:
        return None
    low, high = min(late or early), max(late or early)
    room = high - low
    first_low, first_high = min(early or late), max(early or late)
    if late and room and max(low - first_low, first_high - high) > room:
        first_low, first_high = max(first_low, low - room / 4), min(first_high, high + room / 4)
    low, high = min(low, first_low), max(high, first_high)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1
    return back(low - margin), back(high + margin)
