"""How far the runs are, read from logs that are known."""

from __future__ import annotations

import json
from pathlib import Path

from fairseq_cgc.inference.text.lines import write_lines
from fairseq_cgc.mt.reproduce.progress import standings, write_standings
from fairseq_cgc.mt.reproduce.protocol import load_protocol
from fairseq_cgc.mt.reproduce.runs import Experiment

LOG = [
    {"epoch": 1, "train_loss": "5", "train_nll_loss": "4", "train_num_updates": "10",
     "train_wpb": "100", "train_train_wall": "5"},
    {"epoch": 1, "valid_loss": "3.5", "valid_nll_loss": "3.25", "valid_num_updates": "10"},
    {"epoch": 2, "loss": "4", "num_updates": "15"},
]  # fmt: skip


def test_a_run_under_way_one_to_come_and_one_that_has_ended(tmp_path: Path) -> None:
    experiment = Experiment(
        protocol=load_protocol("multi30k"),
        data_dir=tmp_path,
        out=tmp_path,
        systems=["lightconv", "cgc"],
        seeds=[1, 2],
        beams=[5],
        last_epochs=10,
        extra_options=["--max-update", "2000"],
        cpu=True,
        jobs=3,
    )
    first, second, third, fourth = experiment.runs()
    write_lines(first.folder / "train.log", map(json.dumps, LOG))
    write_lines(third.folder / "train.log", ["no values yet"])
    write_lines(fourth.folder / "train.log", map(json.dumps, LOG))
    found = standings(experiment, [fourth])
    assert list(map(str, found)) == [
        "LightConv, seed 1: 15 of 2,000 updates, epoch 2, valid nll 3.250, 200 tokens/s, "
        "not scored",
        "LightConv + CGC encoder, seed 1: 0 of 2,000 updates, not scored",
        "LightConv, seed 2: 0 of 2,000 updates, not scored",
        "LightConv + CGC encoder, seed 2: 15 of 2,000 updates, epoch 2, valid nll 3.250, "
        "200 tokens/s, scored",
    ]

    write_standings(experiment, found, "python reproduce.py")
    record = json.loads((tmp_path / "standing.json").read_text(encoding="utf-8"))
    assert record["command"] == "python reproduce.py" and record["runs_at_a_time"] == 3
    assert record["machine"].startswith("CPU ") and "torch" in record["versions"]
    run = record["runs"][0]
    assert (run["system"], run["seed"], run["updates"]) == ("lightconv", 1, 15)
    assert run["train"] == [[10, 5.0, 4.0]] and run["valid"] == [[10, 3.5, 3.25]]
