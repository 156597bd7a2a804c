from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
from our_commands import run_command
from tinyrun import TinyRun

from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.mt.evaluate import lenpen
from fairseq_cgc.mt.evaluate.evaluation import Model
from fairseq_cgc.mt.evaluate.lenpen import Trial, Tuning, parse_lenpens, sweep_lenpen
from fairseq_cgc.mt.evaluate.metrics import PlainTextScore, Scores, TokenizedBleu
from fairseq_cgc.support.errors import UserError


def scores(bleu: float, length: int = 90) -> Scores:
    plain = PlainTextScore(bleu + 1, "nrefs:1|case:lc")
    tokenized = TokenizedBleu(bleu, (60.0, 40.0, 30.0, 20.0), 0.9, length, 100)
    keys = ("sacrebleu", "sacrebleu_other_case", "chrf")
    return Scores({"tokenized": tokenized, **dict.fromkeys(keys, plain)})


def tuning(**bleu: float) -> Tuning:
    """``x08=30.5``: 30.5 with a length penalty of 0.8."""
    return Tuning(
        [
            Trial(int(name.removeprefix("x")) / 10, scores(score), Path(name))
            for name, score in bleu.items()
        ]
    )


def test_values_are_read() -> None:
    assert parse_lenpens("0.6,0.8, 1,1.2") == [0.6, 0.8, 1.0, 1.2]
    assert parse_lenpens("-1") == [-1.0]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "--sweep-lenpen has '', but must be numbers from -10 to 10 separated by"),
        ("0.6,,1", "--sweep-lenpen has ''"),
        ("0.6,long", "--sweep-lenpen has 'long'"),
        ("0.6,nan", "--sweep-lenpen has 'nan'"),
        ("inf", "--sweep-lenpen has 'inf'"),
        ("1,10.5", "--sweep-lenpen has '10.5'"),
        ("1,0.5,1.0", "--sweep-lenpen has 1 twice"),
        ("1,1.0000001", "--sweep-lenpen has 1 twice"),
    ],
)
def test_values_that_are_none(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_lenpens(text)


def test_best_is_the_highest_bleu() -> None:
    assert tuning(x6=30.0, x8=31.0, x10=30.9, x14=29.0).best.lenpen == 0.8
    assert tuning(x6=30.0, x20=31.0).best.lenpen == 2.0


def test_of_equal_ones_the_nearest_to_1() -> None:
    assert tuning(x6=31.0, x12=31.0, x14=31.0, x10=30.0).best.lenpen == 1.2
    assert tuning(x4=31.0, x10=31.0, x8=31.0).best.lenpen == 1.0


def test_table_and_record() -> None:
    tried = tuning(x6=30.0, x10=31.25)
    rows = tried.table().splitlines()[:4]
    assert len({len(row) for row in rows}) == 1
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells[0] == ["lenpen", "tokenised BLEU-4", "sacreBLEU", "length ratio", ""]
    assert cells[2:] == [
        ["0.6", "30.00", "31.00", "0.900", ""], ["1", "31.25", "32.25", "0.900", "best"],
    ]  # fmt: skip
    record = json.loads(json.dumps(tried.to_json()))
    assert record["split"] == "valid"
    assert record["trials"][1] == {
        "lenpen": 1.0, "tokenized_bleu": 31.25, "sacrebleu": 32.25, "length_ratio": 0.9,
        "output": "x10",
    }  # fmt: skip


def test_hint_at_the_end_of_the_range() -> None:
    assert tuning(x6=30.0, x10=31.0).table().endswith("end of the range; more may be better still")
    assert tuning(x12=29.0, x10=31.0).table().endswith("end of the range; less may be better still")
    assert "range" not in tuning(x6=30.0, x10=31.0, x14=30.0).table()
    assert "range" not in tuning(x6=30.0).table()


def test_only_valid_is_translated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def evaluate(*arguments: object, **keywords: object) -> tuple[Scores, object]:
        calls.append((arguments, keywords))
        return scores(30.0 + len(calls)), keywords["output"]

    monkeypatch.setattr(lenpen, "evaluate", evaluate)
    caplog.set_level(logging.INFO)
    model, data = Model(tmp_path / "m.pt", []), tmp_path / "data"
    options = SearchOptions(beam=3, lenpen=9.0)
    tried = sweep_lenpen(model, data, [0.5, 1.0], options=options, command=["me"])
    assert [arguments for arguments, _ in calls] == [(model, data)] * 2
    assert [keywords["split"] for _, keywords in calls] == ["valid"] * 2
    assert "reference" not in calls[0][1]  # the user's are those of the split that is asked for
    assert [keywords["options"] for _, keywords in calls] == [
        SearchOptions(beam=3, lenpen=0.5), SearchOptions(beam=3, lenpen=1.0),
    ]  # fmt: skip
    assert [trial.output for trial in tried.trials] == [
        tmp_path / "m.valid.beam3-lenpen0.5", tmp_path / "m.valid.beam3-lenpen1",
    ]  # fmt: skip
    assert tried.best.lenpen == 1.0
    assert "lenpen 0.5 on valid (1 of 2)" in caplog.messages

    tried = sweep_lenpen(model, data, [0.5], output=tmp_path / "out")
    assert tried.trials[0].output == tmp_path / "out" / "m.valid.beam6-lenpen0.5"


@pytest.mark.slow
def test_evaluate_sweeps_the_length_penalty(run: TinyRun, tmp_path: Path) -> None:
    arguments = [
        run.save_dir / "checkpoint_last.pt", "--data", run.data_dir, "--beam", 2, "--cpu",
        "--sweep-lenpen", "0,1.5", "--output", tmp_path / "out",
    ]  # fmt: skip
    done = run_command("evaluate", *arguments)
    printed = done.stdout.decode()
    assert done.returncode == 0, done.stderr.decode()
    assert "lenpen 1.5 on valid (2 of 2)" in done.stderr.decode()

    record = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    trials = record["lenpen_tuning"]["trials"]
    assert [trial["lenpen"] for trial in trials] == [0.0, 1.5]
    best = max(trials, key=lambda t: (t["tokenized_bleu"], -abs(t["lenpen"] - 1)))["lenpen"]
    assert (record["split"], record["lenpen"]) == ("test", best)
    assert f"best tokenised BLEU-4 on valid: lenpen {best:g}; with it, test:" in printed
    assert record["scores"]["tokenized"]["score"] == pytest.approx(
        float(re.search(r"\| tokenised BLEU-4 +\| +([\d.]+) \|", printed)[1]), abs=0.01
    )
    logs = sorted((tmp_path / "out").rglob("translations.jsonl"))
    assert [str(log.parent.relative_to(tmp_path / "out")) for log in logs] == [
        "checkpoint_last.valid.beam2-lenpen0", "checkpoint_last.valid.beam2-lenpen1.5", ".",
    ]  # fmt: skip
    for log, trial in zip(logs[:2], trials, strict=True):
        assert trial["output"] == str(log.parent)
        part = json.loads((log.parent / "scores.json").read_text(encoding="utf-8"))
        assert (part["split"], part["lenpen"]) == ("valid", trial["lenpen"])
        assert part["scores"]["tokenized"]["score"] == trial["tokenized_bleu"]
        assert part["lenpen_tuning"] is None

    # Interrupted before the last value: only that is translated when it goes on.
    logs[1].unlink()
    kept = [logs[0], logs[2]]
    times = [log.stat().st_mtime_ns for log in kept]
    again = run_command("evaluate", *arguments)
    assert again.stdout.decode() == printed
    assert [log.stat().st_mtime_ns for log in kept] == times
    assert logs[1].exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--lenpen", 1, "--sweep-lenpen", "0.6"], "--lenpen and --sweep-lenpen exclude each"),
        (["--sweep-lenpen", "0.6,x"], "--sweep-lenpen has 'x'"),
    ],
)
def test_script_refuses(options: list[object], message: str, tmp_path: Path) -> None:
    done = run_command("evaluate", tmp_path, "--data", tmp_path, *options)
    assert done.returncode == 1 and done.stdout == b""
    error = done.stderr.decode().strip()
    assert error.startswith(f"error: {message}") and "\n" not in error
    assert list(tmp_path.iterdir()) == []
