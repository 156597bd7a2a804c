from __future__ import annotations

import pytest

from fairseq_cgc.mt.reproduce.scores_figure import draw_scores
from fairseq_cgc.support import figures

pytest.importorskip("matplotlib")


def test_error_bars_over_seeds_numbers_and_what_is_published(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, _: drawn.append(figure))
    rows = [
        {"system": "transformer", "beam": 5, "bleu": [40.0, 41.0, 42.0]},
        {"system": "cgc", "beam": 5, "bleu": [41.5]},
    ]
    record = {"protocol": "multi30k", "split": "test", "rows": rows}
    draw_scores(record, tmp_path / "x.png")
    axis = drawn[0].axes[0]
    [bar] = axis.collections  # no bar for one seed
    [ends] = bar.get_segments()
    assert ends[:, 0].tolist() == [40.0, 42.0]  # mean 41, deviation 1
    marks = {line.get_marker(): list(line.get_xdata()) for line in axis.lines[::-1]}
    assert marks["D"] == [41.02]
    numbers = [label.get_text() for label in axis.child_axes[0].get_yticklabels()]
    assert numbers == ["41.00 ± 1.00", "41.50"]
    legend = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert legend == ["mean ± s.d.", "seed", "published"]
    record["split"] = "valid"
    record["rows"] = rows[1:]
    draw_scores(record, tmp_path / "x.png")
    assert [text.get_text() for text in drawn[1].legends[0].get_texts()] == ["one seed"]


def test_long_names_leave_room_for_the_scores(tmp_path, monkeypatch):
    drawn = []

    def save(figure, _):
        figure.draw_without_rendering()
        drawn.append(figure)

    monkeypatch.setattr(figures, "save_figure", save)
    rows = [{"system": "cgc-source", "beam": beam, "bleu": [41.0, 41.5]} for beam in (5, 6)]
    draw_scores({"protocol": "multi30k", "split": "test", "rows": rows}, tmp_path / "x.png")
    axis = drawn[0].axes[0]
    assert axis.get_position().width > 0.35
    first, second = (label.get_window_extent() for label in axis.get_yticklabels())
    assert first.y0 > second.y1  # they do not overlap
