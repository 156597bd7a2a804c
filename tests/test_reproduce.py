"""fairseq-cgc reproduce as a user runs it: whole experiments on a small release."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import toy
from our_commands import ENVIRONMENT, command_line
from release import write_release

from fairseq_cgc.support.checkpoints import safe_load

OPTIONS = [
    *("--systems", "lightconv,cgc", "--seeds", "1", "--beam", "2", "--max-update", "12", "--cpu"),
    "--train-options=--max-tokens 600 --update-freq 1 --lr 0.02 --warmup-updates 4",
]


def command(*arguments: str | Path) -> list[str]:
    return command_line("reproduce", *arguments)


def reproduce(*arguments: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, env=ENVIRONMENT, cwd=toy.ROOT
    )


def result_of(out: Path) -> list[dict]:
    """The rows of the table without what time decides."""
    rows = json.loads((out / "results.json").read_text(encoding="utf-8"))["rows"]
    return [
        {key: value for key, value in row.items() if key not in ("seconds", "tokens_per_second")}
        for row in rows
    ]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release") / "multi30k")


@pytest.fixture(scope="module")
def reproduced(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reproduced") / "out"
    toy.succeed(reproduce("multi30k", "--data", release, "--out", out, *OPTIONS))
    return out


@pytest.mark.slow
@pytest.mark.xdist_group("reproduce")
class TestExperiment:
    def test_it_leaves_the_table_and_its_pictures(self, reproduced: Path) -> None:
        lightconv, cgc = result_of(reproduced)
        assert (lightconv["system"], cgc["system"]) == ("lightconv", "cgc")
        assert cgc["parameters"] - lightconv["parameters"] == 2660  # the gates of 3, 7, 15, 31
        assert len(cgc["p_values"]) == 1 and lightconv["p_values"] == []
        # Of the 12 updates, those of the second epoch are in no epoch's checkpoint.
        weights = json.loads((reproduced / "results.json").read_text())["runs"][0]["weights"]
        assert list(weights) == ["checkpoint1.pt"] and weights["checkpoint1.pt"] < 12
        text = (reproduced / "results.md").read_text(encoding="utf-8")
        assert "Updates trained: 12." in text
        assert f"Weights scored: checkpoint1.pt (update {weights['checkpoint1.pt']})" in text
        names = ("results.md", "results.json", "results.png", "curves.png")
        assert all((reproduced / name).stat().st_size for name in names)
        outputs = [reproduced / f"{system}-seed1/test.beam2" for system in ("lightconv", "cgc")]
        assert all((output / "scores.json").is_file() for output in outputs)

    def test_a_second_call_only_reads(self, reproduced: Path, release: Path) -> None:
        before = {
            path: path.stat().st_mtime_ns
            for pattern in ("data/*", "*/*.pt", "*/*/translations.jsonl", "*/*/against-*.json")
            for path in reproduced.glob(pattern)
        }
        assert len(before) > 10
        result = toy.succeed(
            reproduce("multi30k", "--data", release, "--out", reproduced, *OPTIONS)
        )
        assert {path: path.stat().st_mtime_ns for path in before} == before
        table = (reproduced / "results.md").read_text(encoding="utf-8").split("\n\n")[0]
        assert table in result.stdout

    def test_a_changed_setting_is_refused(self, reproduced: Path, release: Path) -> None:
        changed = [*OPTIONS, "--max-update", "11"]
        result = reproduce("multi30k", "--data", release, "--out", reproduced, *changed)
        assert result.returncode == 1
        error = result.stderr.strip().splitlines()[-1]
        assert error.startswith("error: ") and "--max-update 12, now it is 11" in error
        assert "Traceback" not in result.stderr

    def test_a_reference_of_the_wrong_length_is_refused_before_training(
        self, reproduced: Path, release: Path, tmp_path: Path
    ) -> None:
        reference, out = tmp_path / "reference.de", tmp_path / "out"
        reference.write_text("ein satz\n" * 20, encoding="utf-8")
        arguments = ["multi30k", "--data", reproduced / "data", "--out", out, *OPTIONS]
        result = reproduce(*arguments, "--reference", reference)
        assert result.returncode == 1
        assert result.stderr.startswith(
            f"error: --reference {reference} has 20 lines, but the test"
        )
        assert "has 21" in result.stderr and not out.exists()

    def test_when_time_is_over_it_says_how_far_it_is(
        self, reproduced: Path, release: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        arguments = ["multi30k", "--data", reproduced / "data", "--out", out, *OPTIONS]
        result = reproduce(*arguments, "--minutes", "0.001")
        assert result.returncode == 75, result.stderr
        assert "LightConv, seed 1: 0 of 12 updates, not scored\n" in result.stdout
        assert result.stdout.endswith("0.001 minutes are over; the same command continues\n")
        assert "error" not in result.stderr and "Traceback" not in result.stderr
        assert len(json.loads((out / "standing.json").read_text())["runs"]) == 2

    def test_the_validation_set_has_a_table_of_its_own(
        self, reproduced: Path, release: Path
    ) -> None:
        before = (reproduced / "results.json").read_bytes()
        arguments = ["multi30k", "--data", release, "--out", reproduced, *OPTIONS]
        toy.succeed(reproduce(*arguments, "--split", "valid", "--minutes", "10"))
        record = json.loads((reproduced / "results-valid.json").read_text())
        assert [row["beam"] for row in record["rows"]] == [2, 2]
        folder = reproduced / "cgc-seed1" / "valid.beam2"
        assert len((folder / "hypotheses.txt").read_text().splitlines()) == 20
        assert (reproduced / "results.json").read_bytes() == before
        standing = json.loads((reproduced / "standing.json").read_text())
        assert all(run["scored"] for run in standing["runs"])

    def test_a_report_of_what_there_is_trains_nothing(
        self, reproduced: Path, release: Path
    ) -> None:
        """Of two seeds, one of which was never trained; both splits, and what the gates do."""
        arguments = ["multi30k", "--data", release, "--out", reproduced, *OPTIONS]
        arguments += ["--seeds", "1,2", "--split", "test,valid", "--no-training", "--gates"]
        result = toy.succeed(reproduce(*arguments))
        assert not list(reproduced.glob("*-seed2"))
        assert result.stdout.count("| system |") == 2
        for name in ("results", "results-valid"):
            record = json.loads((reproduced / f"{name}.json").read_text())
            assert [run["seed"] for run in record["runs"]] == [1, 1]
        gates = json.loads((reproduced / "gates-cgc.json").read_text())
        assert gates["sentences"] == {"test": 21} and (reproduced / "gates-cgc.png").is_file()
        assert all(0 < layer["short"] < 1 for layer in gates["layers"].values())
        assert not (reproduced / "gates-lightconv.json").exists()

    def test_a_test_set_in_another_folder_has_a_table_of_its_own(
        self, reproduced: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "other" / "bin"
        shutil.copytree(reproduced / "data", other)
        arguments = ["multi30k", "--data", reproduced / "data", "--out", reproduced, *OPTIONS]
        toy.succeed(reproduce(*arguments, "--no-training", "--test-data", other))
        record = json.loads((reproduced / "results-other-test.json").read_text())
        found = {run["system"]: run["beams"]["2"]["scores"] for run in record["runs"]}
        record = json.loads((reproduced / "results.json").read_text())
        assert found == {run["system"]: run["beams"]["2"]["scores"] for run in record["runs"]}

    def test_without_runs_there_is_nothing_to_report(
        self, reproduced: Path, tmp_path: Path
    ) -> None:
        arguments = ["multi30k", "--data", reproduced / "data", "--out", tmp_path / "out"]
        result = reproduce(*arguments, *OPTIONS, "--no-training")
        assert result.returncode == 1
        assert result.stderr.endswith("out has been trained to its end\n")
        assert not (tmp_path / "out").exists()

    def test_extended_it_ends_in_the_weights_of_one_that_ran_through(
        self, reproduced: Path, release: Path, tmp_path: Path
    ) -> None:
        """Killed while it is extended, too; and what it had come to before is kept."""
        out = tmp_path / "out"
        options = [*OPTIONS, "--systems", "cgc"]
        arguments = ["multi30k", "--data", reproduced / "data", "--out", out, *options]
        toy.succeed(reproduce(*arguments, "--max-update", "7"))
        first = result_of(out)
        run, whole = out / "cgc-seed1", reproduced / "cgc-seed1"
        stamp = (run / "checkpoint_last.pt").stat().st_mtime_ns
        with subprocess.Popen(
            command(*arguments),
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            while (run / "checkpoint_last.pt").stat().st_mtime_ns == stamp:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        toy.succeed(reproduce(*arguments))
        for name in ("checkpoint_last.pt", "checkpoint_best.pt", "average-last-epochs-*.pt"):
            ours, theirs = (safe_load(next(folder.glob(name))) for folder in (run, whole))
            assert ours["model"].keys() == theirs["model"].keys()
            assert all(torch.equal(ours["model"][k], theirs["model"][k]) for k in ours["model"])
        toy.succeed(reproduce(*arguments, "--max-update", "7"))
        assert result_of(out) == first
        assert len(list((run / "stage-7").glob("*.pt"))) == 1
        assert json.loads((run / "training.json").read_text())["settings"]["--max-update"] == "12"

    def test_killed_at_any_moment_it_ends_in_the_same_table(
        self, reproduced: Path, release: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        arguments = ["multi30k", "--data", release, "--out", out, *OPTIONS]
        for moment in (
            "data.partial",
            "lightconv-seed1/checkpoint1.pt",
            "cgc-seed1/training.json",
            "cgc-seed1/test.beam2/*translations.jsonl*",  # unfinished, or just finished
        ):
            with subprocess.Popen(
                command(*arguments),
                env=ENVIRONMENT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as process:
                while not list(out.glob(moment)):
                    assert process.poll() is None, moment
                    time.sleep(0.02)
                process.send_signal(signal.SIGKILL)
        toy.succeed(reproduce(*arguments))
        assert result_of(out) == result_of(reproduced)


@pytest.mark.slow
@pytest.mark.xdist_group("reproduce")
def test_less_than_an_epoch_is_scored_as_it_is(
    reproduced: Path, release: Path, tmp_path: Path
) -> None:
    options = [*OPTIONS, "--systems", "cgc", "--max-update", "2", "--last-epochs", "2"]
    arguments = ["multi30k", "--data", reproduced / "data", "--out", tmp_path / "out", *options]
    result = toy.succeed(reproduce(*arguments))
    assert "has no checkpointEPOCH.pt; checkpoint_last.pt is taken as it is" in result.stderr
    text = (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert "Updates trained: 2." in text
    assert "Weights scored: checkpoint_last.pt (update 2), as there are not 2 whole epochs" in text


def test_a_dry_run_of_a_release_prints_sizes_and_leaves_nothing(
    release: Path, tmp_path: Path
) -> None:
    arguments = ["multi30k", "--data", release, "--out", tmp_path / "out", "--systems", "cgc"]
    result = toy.succeed(reproduce(*arguments, "--dry-run"))
    assert re.search(r"# \| LightConv \+ CGC encoder \| [\d,]{7,} \|", result.stdout)
    assert "fairseq-train " in result.stdout and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_dry_run_prints_the_sizes_and_commands_that_fairseq_takes(
    shared_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "my runs"
    data = shared_data / "iwslt14-devtest"
    result = toy.succeed(reproduce("table6", "--data", data, "--out", out, "--dry-run"))
    for number in ("39,469,056", "38,139,436", "38,447,576", "38,148,144"):
        assert number in result.stdout
    words = [shlex.split(line) for line in result.stdout.splitlines() if not line.startswith("#")]
    starts = [line[0] for line in words if line]
    assert starts == ["fairseq-train", "fairseq-cgc", "fairseq-generate"] * 4
    assert words[0][:2] == ["fairseq-train", str(data)] or words[1][:2] == [
        "fairseq-train",
        str(data),
    ]
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--systems", "lstm"], "--systems has 'lstm', but must be of transformer, lightconv"),
        (["--seeds", "1,x"], "--seeds is '1,x', but must be positive integers between commas"),
        (["--beam", "0"], "--beam is '0', but must be positive integers between commas"),
        (["--last-epochs", "0"], "--last-epochs is 0, but must be at least 1"),
        (["--minutes", "0"], "--minutes is 0, but must be a number above 0"),
        (["--minutes", "inf"], "--minutes is inf, but must be a number above 0"),
        (["--jobs", "0"], "--jobs is 0, but must be at least 1"),
        (["--train-options", "fp16"], "--train-options is 'fp16', but must start with an option"),
        (["--train-options", "--x '"], '--train-options is "--x \'": No closing quotation'),
        (["--data", "nowhere"], "--data nowhere is no folder of binarised data: it has no dict.de"),
    ],
)
def test_wrong_arguments_end_in_one_line(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    result = reproduce("table6", "--out", tmp_path / "out", "--cpu", *arguments)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and message in result.stderr
    assert result.stderr.count("\n") == 1
