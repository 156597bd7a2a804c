"""The guided first run, on a few sentences."""

import pytest

from fairseq_cgc.demo.run import run_demo


@pytest.mark.slow
def test_every_step_is_done_once(tmp_path, capsys):
    sizes = {"train_pairs": 300, "valid_pairs": 20, "test_pairs": 20, "subwords": 100}
    scores = run_demo(tmp_path, **sizes, updates=12)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.*")}
    names = {path.name for path in made}
    assert {"train.de", "checkpoint_best.pt", "train.log", "hypotheses.txt"} <= names
    assert (tmp_path / "curve.png").is_file() and (tmp_path / "gates.png").is_file()
    printed = capsys.readouterr().out
    assert printed.count("\ntranslation ") == 3 and scores.table() in printed

    assert run_demo(tmp_path, **sizes, updates=12).table() == scores.table()
    again = {path: path.stat().st_mtime_ns for path in made if path.parent.name != "evaluation"}
    assert again == {path: time for path, time in made.items() if path in again}
