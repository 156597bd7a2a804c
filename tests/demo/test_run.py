"""The guided first run, on a few sentences."""

import pytest

from fairseq_cgc.demo import run
from fairseq_cgc.demo.run import recipe, run_demo
from fairseq_cgc.mt.fairseq_commands import merge_options


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_only_where_it_is_faster(monkeypatch, fast):
    monkeypatch.setattr(run, "has_fast_bfloat16", lambda: fast)
    options = merge_options(recipe(10))
    assert ("--bf16" in options) == fast
    assert options["--max-update"] == options["--total-num-update"] == ["10"]


@pytest.mark.slow
def test_every_step_is_done_once(tmp_path, capsys):
    sizes = {"train_pairs": 300, "valid_pairs": 20, "test_pairs": 20, "subwords": 100}
    scores = run_demo(tmp_path, **sizes, updates=16)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.*")}
    names = {path.name for path in made}
    assert {"train.de", "checkpoint_best.pt", "train.log", "hypotheses.txt"} <= names
    assert (tmp_path / "curve.png").is_file() and (tmp_path / "gates.png").is_file()
    printed = capsys.readouterr().out
    assert printed.count("\ntranslation ") == 3 and scores.table() in printed

    assert run_demo(tmp_path, **sizes, updates=16).table() == scores.table()
    again = {path: path.stat().st_mtime_ns for path in made if path.parent.name != "evaluation"}
    assert again == {path: time for path, time in made.items() if path in again}
