from __future__ import annotations

from typing import Any

import pytest

from fairseq_cgc.core import UserError
from fairseq_cgc.support import figures
from fairseq_cgc.support.panels import Curve, Panel, draw_panels

pytest.importorskip("matplotlib")


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draw panels; the figure."""
    drawn: list[Any] = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, _: drawn.append(figure))

    def call(*panels: Panel) -> Any:
        draw_panels(panels, "updates", tmp_path / "x.png")
        return drawn[-1]

    return call


def band(axis: Any, number: int = 0) -> set[tuple[float, float]]:
    """The corners of a band."""
    vertices = axis.collections[number].get_paths()[0].vertices
    return {(round(float(x), 6), round(float(y), 6)) for x, y in vertices}


def test_seeds_are_averaged_and_their_spread_is_a_band(draw):
    curves = [Curve("a", [1, 2, 3], y, False) for y in ([1, 2, 6], [3, 2, 8], [5, 2, 10])]
    axis = draw(Panel("loss (nats)", curves)).axes[0]
    [line] = axis.lines
    assert list(line.get_ydata()) == [3, 2, 8]
    assert {(1, 1), (1, 5), (2, 2), (3, 6), (3, 10)} <= band(axis)  # deviation 2, 0 and 2


def test_seeds_of_different_lengths_and_places(draw):
    """A run that has ended no longer counts; between its points it has straight lines."""
    curves = [Curve("a", [1, 3], [1, 3], False), Curve("a", [1, 2, 3, 5], [3, 4, 5, 7], False)]
    axis = draw(Panel("loss (nats)", curves)).axes[0]
    [line] = axis.lines
    assert list(line.get_xdata()) == [1, 2, 3, 5]
    assert list(line.get_ydata()) == [2, 3, 4, 7]
    assert (5, 7) in band(axis)


def test_values_that_are_no_numbers_are_left_out(draw):
    inf, nan = float("inf"), float("nan")
    curves = [Curve("a", [1, 2, 3], [1, nan, 3], False), Curve("b", [1, 2], [inf, nan], False)]
    axis = draw(Panel("loss (nats)", curves)).axes[0]
    low, high = axis.get_ylim()
    assert 0 < low < 1 and 3 < high < 4
    assert draw(Panel("loss (nats)", [Curve("b", [], [], False)])).axes[0].lines


def test_training_and_validation_are_both_in_the_legend(draw):
    curves = [Curve("a", [1, 2], [1, 2], kind) for kind in (True, False)]
    one = draw(Panel("loss (nats)", curves))
    names, kinds = ([text.get_text() for text in legend.get_texts()] for legend in one.legends)
    assert names == ["a"] and kinds == ["validation", "training"]
    assert [line.get_linestyle() for line in one.legends[1].get_lines()] == ["-", "--"]
    seeds = draw(Panel("loss (nats)", curves * 2), Panel("BLEU (0 to 100)", curves[1:]))
    assert seeds.legends[1].get_texts()[-1].get_text() == "mean ± s.d. of seeds"
    assert [axis.get_title("left") for axis in seeds.axes] == ["(a)", "(b)"]
    only = draw(Panel("BLEU (0 to 100)", curves[1:]))
    assert [text.get_text() for text in only.legends[1].get_texts()] == ["validation"]


def falling(start: float, points: int = 50) -> Curve:
    return Curve("a", list(range(1, points + 1)), [start, 9.0, *[3 - i / 50 for i in
                 range(points - 2)]], False)  # fmt: skip


@pytest.mark.parametrize("start", [12.0, 1e3, 1e9])
def test_the_first_points_do_not_rule_the_range(draw, start):
    low, high = draw(Panel("loss (nats)", [falling(start)])).axes[0].get_ylim()
    assert 1.9 < low < 2.04 and 3 <= high < 3.5


def test_first_points_that_take_little_room_are_seen(draw):
    curve = Curve("a", list(range(1, 51)), [3.8, *[3 - i / 50 for i in range(49)]], False)
    assert draw(Panel("loss (nats)", [curve])).axes[0].get_ylim()[1] > 3.8


def test_what_comes_late_is_seen_whatever_it_is(draw):
    curve = Curve("a", list(range(1, 51)), [3.0] * 49 + [1e4], False)
    assert draw(Panel("loss (nats)", [curve])).axes[0].get_ylim()[1] > 1e4


def test_a_rising_start_and_a_logarithmic_axis(draw):
    rising = Curve("a", list(range(1, 51)), [-500, *[30 + i / 10 for i in range(49)]], False)
    assert draw(Panel("BLEU (0 to 100)", [rising])).axes[0].get_ylim()[0] > 27
    falls = Curve("a", list(range(1, 51)), [1e6, *[10 - i / 10 for i in range(49)]], False)
    low, high = draw(Panel("loss (nats)", [falls], log_scale=True)).axes[0].get_ylim()
    assert 4 < low < 5.3 and 10 < high < 15


@pytest.mark.parametrize("points", [1, 2])
def test_short_runs_are_seen_whole(draw, points):
    curve = Curve("a", [1, 2][:points], [100, 3][:points], False)
    low, high = draw(Panel("loss (nats)", [curve])).axes[0].get_ylim()
    assert low < 3 or points == 1
    assert high > 100


def test_without_runs_there_is_nothing_to_draw(tmp_path):
    with pytest.raises(UserError, match="no training log to draw"):
        draw_panels([Panel("loss (nats)", [])], "epoch", tmp_path / "x.png")
