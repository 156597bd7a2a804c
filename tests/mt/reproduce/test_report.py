"""The table of an experiment, from runs whose numbers are known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from outputs import ter_among_the_metrics

from fairseq_cgc.inference.text.lines import write_lines
from fairseq_cgc.mt.evaluate.metrics import PlainTextScore, Scores, TokenizedBleu
from fairseq_cgc.mt.reproduce import against_baseline, report
from fairseq_cgc.mt.reproduce.against_baseline import compare_with_baseline
from fairseq_cgc.mt.reproduce.protocol import load_protocol
from fairseq_cgc.mt.reproduce.report import write_report
from fairseq_cgc.mt.reproduce.runs import Experiment, Run, RunResult
from fairseq_cgc.mt.train import training_log as curves
from fairseq_cgc.mt.train.training_log import Speed, TrainingLog

REFERENCES = [f"satz {number} ist eine zeile mit {number} worten ." for number in range(40)]
BEAM = 6


def result(out: Path, system: str, seed: int, bleu: float, wrong: int) -> RunResult:
    """A finished run with ``wrong`` bad translations."""
    folder = out / f"{system}-seed{seed}"
    output = folder / f"test.beam{BEAM}"
    write_lines(output / "hypotheses.txt", ["nichts"] * wrong + REFERENCES[wrong:])
    write_lines(output / "references.txt", REFERENCES)
    log = [
        {"epoch": 1, "train_nll_loss": "4", "train_num_updates": "10", "train_wpb": "100",
         "train_train_wall": "5", "valid_nll_loss": "3", "valid_num_updates": "10"},
        {"epoch": 2, "train_nll_loss": "3", "train_num_updates": "25", "train_wpb": "200",
         "train_train_wall": "3595", "valid_nll_loss": "2", "valid_num_updates": "25"},
    ]  # fmt: skip
    write_lines(folder / "train.log", map(json.dumps, log))
    scores = Scores(
        {
            "tokenized": TokenizedBleu(bleu, (60.0, 40.0, 30.0, 20.0), 1.0, 100, 100),
            "sacrebleu": PlainTextScore(bleu + 1, "nrefs:1|case:lc"),
            "sacrebleu_other_case": PlainTextScore(bleu, "nrefs:1|case:mixed"),
            "chrf": PlainTextScore(bleu + 20, "nrefs:1|nc:6"),
        },
        note="a note",
    )
    return RunResult(
        run=Run(system, seed, folder),
        parameters=38_148_144,
        weights={"checkpoint1.pt": 10, "checkpoint2.pt": 25},
        speed=Speed(updates=25, seconds=3600.0, tokens=7_200_000.0),
        scores={BEAM: scores},
        outputs={BEAM: output},
    )


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return Experiment(
        protocol=load_protocol("iwslt14_de_en"),
        data_dir=tmp_path,
        out=tmp_path / "out",
        systems=["lightconv", "cgc"],
        seeds=[1, 2],
        beams=[BEAM],
        last_epochs=10,
        extra_options=["--max-update", "25"],
        cpu=True,
    )


def test_the_table_has_means_deviations_and_tests(experiment: Experiment) -> None:
    results = [
        result(experiment.out, "lightconv", 1, 34.5, wrong=20),
        result(experiment.out, "lightconv", 2, 35.5, wrong=20),
        result(experiment.out, "cgc", 1, 36.0, wrong=0),
        result(experiment.out, "cgc", 2, 36.2, wrong=20),
    ]
    table = write_report(experiment, results, "python reproduce.py").splitlines()
    assert table[0].split(" | ")[1:5] == ["beam", "parameters", "BLEU-4", "published"]
    lightconv, cgc = ([cell.strip() for cell in line.split("|")] for line in table[2:])
    # The sample standard deviation of 34.5 and 35.5 is the root of a half.
    assert lightconv[1:8] == [
        "LightConv", "6", "38,148,144", "35.00 ± 0.71", "34.84", "36.00 ± 0.71", "55.00 ± 0.71"
    ]  # fmt: skip
    assert lightconv[8:11] == ["", "1 h 00 min", "2,000"]
    assert cgc[1:6] == ["LightConv + CGC encoder", "6", "38,148,144", "36.10 ± 0.14", "35.21"]
    clear, none = map(float, cgc[8].split(", "))
    assert clear < 0.01 and none > 0.3  # seed 2 translates as LightConv does
    assert lightconv[11:13] == cgc[11:13] == ["3.000 ± 0.000", "2.000 ± 0.000"]  # the last, lowest

    text = (experiment.out / "results.md").read_text(encoding="utf-8")
    for words in (
        "over the seeds 1, 2.", "Updates trained: 25.",
        "average of checkpoint1.pt, checkpoint2.pt (updates 10, 25), as there are not 10 whole",
        "sacreBLEU: `nrefs:1|case:lc`", "a note",
        "`fairseq_cgc/config/iwslt14_de_en.yaml`, with `--max-update 25`.",
        "Made by `python reproduce.py`; CPU ", "torch ", "compounds are not split",
        "| LightConv + CGC encoder | 6 | 2 | BLEU | +0.00 | 1.000 | 1.000 |",
    ):  # fmt: skip
        assert words in text, words
    record = json.loads((experiment.out / "results.json").read_text(encoding="utf-8"))
    assert record["rows"][1]["bleu"] == [36.0, 36.2]
    assert record["runs"][2]["beams"]["6"]["scores"]["sacrebleu"]["score"] == 37.0
    assert record["runs"][2]["beams"]["6"]["against_lightconv"][0]["metric"] == "BLEU"
    one, other = (
        record["runs"][2]["beams"]["6"][kind][0]
        for kind in ("against_lightconv", "approximate_randomization")
    )
    assert "|bs:1000|" in one["signature"] and "|ar:1000|" in other["signature"]
    row = f"| BLEU | {one['system'] - one['baseline']:+.2f} |"
    assert f"{row} {one['p_value']:.3f} | {other['p_value']:.3f} |" in text
    for picture in ("results.png", "curves.png"):
        assert (experiment.out / picture).read_bytes().startswith(b"\x89PNG")


def test_one_seed_has_no_deviation_and_half_a_table_is_written(experiment: Experiment) -> None:
    table = write_report(experiment, [result(experiment.out, "cgc", 1, 36.0, 3)], "x")
    assert "| 36.00 | 35.21 | 37.00 | 56.00 |  | 1 h 00 min |" in table


def test_where_runs_are_missing_the_seeds_of_each_system_are_listed(
    experiment: Experiment,
) -> None:
    runs = (("lightconv", 1), ("lightconv", 2), ("cgc", 1))
    write_report(experiment, [result(experiment.out, *run, 36.0, 3) for run in runs], "x")
    text = (experiment.out / "results.md").read_text(encoding="utf-8")
    assert "over the seeds 1, 2 (LightConv); 1 (LightConv + CGC encoder). Split" in text


def test_a_new_metric_has_a_column(experiment: Experiment) -> None:
    finished = result(experiment.out, "cgc", 1, 36.0, 3)
    values = {**finished.scores[BEAM].values, "ter": PlainTextScore(48.5, "nrefs:1|tok:tercom")}
    finished = dataclasses.replace(finished, scores={BEAM: Scores(values)})
    with ter_among_the_metrics():
        table = write_report(experiment, [finished], "x")
    assert "| chrF2 | TER (lower is better) | p |" in table and "| 56.00 | 48.50 |" in table
    record = json.loads((experiment.out / "results.json").read_text(encoding="utf-8"))
    assert record["rows"][0]["ter"] == [48.5] and record["rows"][0]["chrf"] == [56.0]
    assert "TER: `nrefs:1|tok:tercom`" in (experiment.out / "results.md").read_text()


def test_another_split_has_files_of_its_own_and_nothing_published(experiment: Experiment) -> None:
    results = [result(experiment.out, "cgc", 1, 36.0, 3)]
    table = write_report(dataclasses.replace(experiment, split="valid"), results, "x")
    assert "| 36.00 |  | 37.00 | 56.00 |" in table
    names = {path.name for path in experiment.out.glob("results*")}
    assert names == {"results-valid.md", "results-valid.json", "results-valid.png"}
    text = (experiment.out / "results-valid.md").read_text(encoding="utf-8")
    assert "Split: valid." in text and "35.21" not in text


def test_a_comparison_is_kept_until_a_text_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [result(tmp_path, "lightconv", 1, 30, 10), result(tmp_path, "cgc", 1, 31, 4)]
    first = compare_with_baseline(results, lowercase=True, target_lang="en")
    assert list(first) == [("cgc", 1, BEAM)]
    made: list[object] = []
    bootstrap = against_baseline.paired_bootstrap
    monkeypatch.setattr(
        against_baseline,
        "paired_bootstrap",
        lambda *args, **kwargs: (made.append(args), bootstrap(*args, **kwargs))[1],
    )
    again = compare_with_baseline(results, lowercase=True, target_lang="en")
    assert again == first and not made
    result(tmp_path, "cgc", 1, 31, 5)
    assert compare_with_baseline(results, lowercase=True, target_lang="en") != first
    assert len(made) == 1
    compare_with_baseline(results, lowercase=False, target_lang="en")
    assert len(made) == 2


def test_runs_without_a_baseline_of_their_seed_are_not_compared(tmp_path: Path) -> None:
    results = [result(tmp_path, "lightconv", 1, 30, 10), result(tmp_path, "cgc", 2, 31, 4)]
    assert compare_with_baseline(results, lowercase=True, target_lang="en") == {}


def test_the_log_of_a_run_that_has_ended_is_read_once(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def read_log(path: Path, name: str) -> TrainingLog:
        read.append(path)
        return curves.read_log(path, name)

    monkeypatch.setattr(report, "read_log", read_log)
    results = [result(experiment.out, "lightconv", seed, 30.0, 4) for seed in (1, 2)]
    write_report(experiment, results[:1], "python x")
    write_report(experiment, results, "python x")
    assert read == [finished.run.folder / "train.log" for finished in results]
