from __future__ import annotations

import json
from typing import Any

import pytest

from fairseq_cgc.analysis import curves
from fairseq_cgc.analysis.curves import ImageLog, draw_image_curves
from fairseq_cgc.core import UserError
from fairseq_cgc.support import figures
from fairseq_cgc.support.figures import new_figure


def epochs(number: int, **changes: Any) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "train_loss": 2 / epoch,
            "train_top1": 90 + epoch,
            "val_loss": 3 / epoch,
            "val_top1": 80 + epoch,
            **changes,
        }
        for epoch in range(1, number + 1)
    ]


@pytest.fixture
def drawn(monkeypatch) -> list:
    """The figures that are made."""
    pytest.importorskip("matplotlib")
    drawn: list = []

    def keep(*size: float) -> Any:
        drawn.append(new_figure(*size))
        return drawn[-1]

    monkeypatch.setattr(figures, "new_figure", keep)
    return drawn


def test_draws_error_and_loss_of_each_run(tmp_path, drawn):
    output = tmp_path / "curves.png"
    logs = [ImageLog("a", epochs(4)), ImageLog("b", epochs(2)), ImageLog("a", epochs(3))]
    draw_image_curves(logs, output)
    assert output.read_bytes().startswith(b"\x89PNG")
    error, loss = drawn[0].axes
    train, valid, *_ = error.lines
    assert list(train.get_xdata()) == [1, 2, 3, 4]
    assert list(train.get_ydata()) == [9, 8, 7, 6] and train.get_linestyle() == "--"
    assert list(valid.get_ydata()) == [19, 18, 17, 16] and valid.get_linestyle() == "-"
    assert list(loss.lines[1].get_ydata()) == [3, 1.5, 1, 0.75]
    colours = [line.get_color() for line in error.lines]
    assert len(colours) == 4 and colours[0] == colours[1] != colours[2] == colours[3]
    legend = [text.get_text() for text in drawn[0].legends[0].texts]
    assert legend == ["a", "b"]


def test_an_error_of_zero_has_a_linear_axis(tmp_path, drawn):
    draw_image_curves([ImageLog("a", epochs(2, val_top1=100.0))], tmp_path / "c.png")
    assert [axis.get_yscale() for axis in drawn[0].axes] == ["linear", "log"]


@pytest.mark.parametrize(
    ("logs", "message"),
    [
        ([], "no training log"),
        ([ImageLog("a", [])], "a has no complete epoch"),
        (
            [ImageLog("a", [{"epoch": 1, "train_loss": 1.0}])],
            "log of a lacks .*val_loss|train_top1",
        ),
    ],
)
def test_a_log_without_values_is_reported(tmp_path, logs, message):
    with pytest.raises(UserError, match=message):
        draw_image_curves(logs, tmp_path / "c.png")
    assert not list(tmp_path.iterdir())


def test_only_runs_that_share_a_given_name_are_seeds_of_one_system(monkeypatch, tmp_path):
    drawn: list[str] = []
    monkeypatch.setattr(
        curves, "draw_curves", lambda logs, out: drawn.extend(log.name for log in logs)
    )
    runs = [tmp_path / name / "checkpoints" for name in ("mine", "news")]
    for run in runs:
        run.mkdir(parents=True)
        line = {"epoch": 1, "train_nll_loss": "5.1", "train_num_updates": "10"}
        (run / "train.log").write_text(json.dumps(line) + "\n", encoding="utf-8")
    curves.draw_runs(runs, None, tmp_path / "x.png")
    curves.draw_runs(runs, ["cgc", "cgc"], tmp_path / "x.png")
    assert drawn == ["mine/checkpoints", "news/checkpoints", "cgc", "cgc"]
