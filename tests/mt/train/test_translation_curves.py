from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tinyrun import TinyRun

from fairseq_cgc.mt.train.training_log import (
    TrainingLog,
    draw_curves,
    read_log,
    training_nll,
    training_speed,
)
from fairseq_cgc.support.errors import UserError


def inner(epoch: int, updates: int, nll: float) -> str:
    values = {"epoch": epoch, "update": 0.5, "loss": "9.1", "nll_loss": str(nll), "ppl": "64",
              "wps": "1000.5", "num_updates": str(updates)}  # fmt: skip
    return json.dumps(values)


def summary(kind: str, epoch: int, updates: int, nll: float, **more: str) -> str:
    values = {"loss": "8.0", "nll_loss": str(nll), "ppl": "2", "wps": "7", "num_updates": updates}
    return json.dumps({"epoch": epoch, **{f"{kind}_{k}": v for k, v in {**values, **more}.items()}})


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two epochs as ``--log-file`` has them: a line more often in every epoch."""
    lines = ["{'_name': None, 'common': {}}", "begin validation"]
    for epoch, repeat in ((1, 1), (2, 2)):
        for line in (
            inner(epoch, epoch * 10 - 5, 6.5 - epoch),
            summary("valid", epoch, epoch * 10, 6.0 - epoch, bleu=f"{epoch}.5"),
            summary("train", epoch, epoch * 10, 5.0 - epoch),
        ):
            lines += [line] * repeat
    path = tmp_path / "run.log"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_values_are_read_once_and_in_order(log: Path) -> None:
    run = read_log(log)
    assert run.name == "run"
    assert [(p.epoch, p.updates, p.nll_loss) for p in run.train] == [(1, 10, 4.0), (2, 20, 3.0)]
    assert [(p.updates, p.nll_loss) for p in run.train_inner] == [(5, 5.5), (15, 4.5)]
    assert [(p.updates, p.nll_loss, p.bleu) for p in run.valid] == [(10, 5.0, 1.5), (20, 4.0, 2.5)]
    assert run.train[0].bleu is None
    first = run.train_inner[0]
    assert (first.loss, first.ppl, first.wps) == (9.1, 64.0, 1000.5)


def test_what_was_printed_is_read_too(log: Path) -> None:
    printed = log.with_name("printed.log")
    prefix = "2026-01-01 10:00:00 | INFO | train | "
    lines = log.read_text(encoding="utf-8").splitlines()
    printed.write_text("".join(f"{prefix}{line}\n" for line in lines), encoding="utf-8")
    assert read_log(printed, "run") == read_log(log)


def test_after_an_interruption_the_later_values_count(log: Path) -> None:
    with log.open("a", encoding="utf-8") as stream:
        stream.write(summary("valid", 2, 20, 1.25) + "\n")
    assert [p.nll_loss for p in read_log(log).valid] == [5.0, 1.25]


def test_a_file_without_values(tmp_path: Path) -> None:
    path = tmp_path / "empty.log"
    path.write_text("epoch 1\n{broken\n[1]\n", encoding="utf-8")
    with pytest.raises(UserError, match="empty.log holds no training values: .*--log-format json"):
        read_log(path)
    with pytest.raises(UserError, match="missing.log"):
        read_log(tmp_path / "missing.log")


def test_drawing(log: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    with_bleu, without = tmp_path / "bleu.png", tmp_path / "loss.png"
    draw_curves([read_log(log)], with_bleu)
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if "bleu" not in line]
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    draw_curves([read_log(log)], without)
    wide, narrow = image.imread(with_bleu), image.imread(without)
    assert wide.shape[1] == 2 * narrow.shape[1]
    assert narrow.std() > 0.01
    with pytest.raises(UserError, match="no training log"):
        draw_curves([], without)


def test_runs_of_one_name_share_a_colour_and_a_place_in_the_legend(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        "fairseq_cgc.support.figures.save_figure", lambda figure, _: drawn.append(figure)
    )
    runs = [read_log(log, name) for name in ("LightConv", "CGC", "LightConv")]
    draw_curves(runs, tmp_path / "curves.png")
    (figure,) = drawn
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["LightConv", "CGC"]
    colours = [line.get_color() for line in figure.axes[0].lines]
    assert colours == ["C0", "C0", "C1", "C1"]


def test_several_systems_have_a_panel_of_differences_from_the_first_ones_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        "fairseq_cgc.support.figures.save_figure", lambda figure, _: drawn.append(figure)
    )

    def run(name: str, losses: dict[int, float]) -> TrainingLog:
        path = tmp_path / "run.log"
        lines = [summary("valid", 1, updates, loss) for updates, loss in losses.items()]
        lines += [summary("train", 1, updates, loss * 3) for updates, loss in losses.items()]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return read_log(path, name)

    first = [run("LightConv", {10: 5.0, 20: 4.0}), run("LightConv", {10: 6.0, 20: 4.5})]
    others = [run("CGC", {10: 5.0, 15: 4.0, 20: 4.0}), run("CGC", {10: 5.5, 20: 4.0})]
    draw_curves([*first, *others], tmp_path / "curves.png")
    lines = drawn[0].axes[1].lines
    assert [list(line.get_xdata()) for line in lines] == [[10, 20]] * 4  # 15 has no first
    found = {(line.get_color(), line.get_linestyle()): list(line.get_ydata()) for line in lines}
    assert found == {
        ("C0", "-"): [0, 0],
        ("C1", "-"): [-0.25, -0.25],
        ("C0", "--"): [0, 0],
        ("C1", "--"): [-0.75, -0.75],
    }
    for runs in (first, [*first, run("CGC", {15: 4.0})]):  # nothing to compare
        draw_curves(runs, tmp_path / "curves.png")
        assert len(drawn[-1].axes) == 1


@pytest.mark.parametrize(
    ("updates", "loss"), [((), None), ((5,), 4.0), ((10, 19), 3.5), ((10, 20, 21), 3.5)], ids=str
)
def test_the_training_loss_is_that_of_the_last_whole_epoch(
    updates: tuple[int, ...], loss: float | None, tmp_path: Path
) -> None:
    path = tmp_path / "run.log"
    losses = dict(zip(updates, (4.0, 3.5, 3.0), strict=False))
    lines = [summary("train", 1, *pair) for pair in losses.items()]
    path.write_text("\n".join([summary("valid", 1, 1, 9.0), *lines]) + "\n", encoding="utf-8")
    assert training_nll(read_log(path)) == loss


def test_speed_adds_up_the_epochs(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    lines = [
        summary("train", epoch, updates, 4.0, wpb=wpb, train_wall=wall)
        for epoch, updates, wpb, wall in (
            (1, 10, "100", "4"),
            (2, 20, "9", "9"),
            (2, 25, "200", "6"),
        )
    ]
    lines.insert(1, inner(1, 12, 3.0))
    path.write_text("\n".join(lines[:2] + lines[3:]) + "\n", encoding="utf-8")
    speed = training_speed(read_log(path))
    assert (speed.updates, speed.seconds, speed.tokens) == (25, 10.0, 10 * 100 + 15 * 200)
    assert speed.tokens_per_second == 400.0


def test_matplotlib_is_optional(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(UserError, match=r"pip install 'fairseq-cgc\[plots\]'"):
        draw_curves([read_log(log)], tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.slow
def test_log_of_a_real_training(run: TinyRun) -> None:
    log = read_log(run.log)
    epochs = list(range(1, len(log.train) + 1))
    assert len(epochs) > 5
    assert [point.epoch for point in log.train] == epochs
    assert [point.epoch for point in log.valid] == epochs
    assert [point.updates for point in log.train] == [point.updates for point in log.valid]
    assert log.valid[0].nll_loss > log.valid[-1].nll_loss
    assert log.valid[-1].bleu > log.valid[0].bleu
    assert all(point.wps for point in log.train_inner)
