"""What an experiment would run; tests/test_reproduce.py runs some."""

from __future__ import annotations

import shlex
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fairseq_cgc.analysis import translation_reports
from fairseq_cgc.commands import reproduce
from fairseq_cgc.inference.text.pipeline import TextPipeline
from fairseq_cgc.inference.text.subwords import MODEL_FILES
from fairseq_cgc.mt.fairseq_commands import merge_options
from fairseq_cgc.mt.reproduce import runs as runs_module
from fairseq_cgc.mt.reproduce.dry_run import commands
from fairseq_cgc.mt.reproduce.options import ReproduceOptions
from fairseq_cgc.mt.reproduce.protocol import load_protocol
from fairseq_cgc.mt.reproduce.runs import Experiment, Run, RunResult
from fairseq_cgc.mt.reproduce.systems import SYSTEMS
from fairseq_cgc.mt.train.training_log import Speed
from fairseq_cgc.support.errors import UserError


def make(tmp_path: Path, **changes: Any) -> Experiment:
    fields: dict[str, Any] = {
        "protocol": load_protocol("multi30k"),
        "data_dir": tmp_path / "data",
        "out": tmp_path / "out",
        "systems": ["lightconv", "cgc"],
        "seeds": [1, 7],
        "beams": [5, 6],
        "last_epochs": 10,
    }
    return Experiment(**{**fields, **changes})


def test_every_system_with_one_seed_comes_before_the_next_seed(tmp_path: Path) -> None:
    runs = [(run.system, run.seed, run.folder.name) for run in make(tmp_path).runs()]
    assert runs == [
        ("lightconv", 1, "lightconv-seed1"),
        ("cgc", 1, "cgc-seed1"),
        ("lightconv", 7, "lightconv-seed7"),
        ("cgc", 7, "cgc-seed7"),
    ]


def test_the_users_options_replace_the_protocols(tmp_path: Path) -> None:
    experiment = make(tmp_path, extra_options=["--max-update", "600", "--fp16"], cpu=True)
    options = merge_options(experiment.train_options(Run("cgc", 7, tmp_path)))
    assert options["--arch"] == ["lightconv_cgc_tiny"]
    assert (options["--max-update"], options["--seed"]) == (["600"], ["7"])
    assert options["--fp16"] == options["--cpu"] == []
    assert options["--lr"] == ["0.005"]
    words = experiment.train_options(Run("cgc", 7, tmp_path))
    assert len([word for word in words if word.startswith("--")]) == len(options)  # none twice


@pytest.mark.parametrize("number", ["0", "-5", "many", ""])
def test_the_number_of_updates_is_positive(number: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--max-update is {number or 'empty'}, but must be at"):
        make(tmp_path, extra_options=["--max-update", *number.split()])


def test_a_seed_that_is_given_twice_is_run_once() -> None:
    assert ReproduceOptions(seeds="1, 2,1,01").numbers("seeds") == [1, 2]


@pytest.mark.parametrize("option", ["--seed 5", "--save-dir=x", "--target-lang en"])
def test_what_tells_runs_apart_is_no_option_of_all(option: str) -> None:
    with pytest.raises(UserError, match=f"--train-options has {option[:6]}"):
        ReproduceOptions(train_options=f"--fp16 {option}").extra_options()


def test_enough_epochs_are_kept_for_the_average(tmp_path: Path) -> None:
    def kept(epochs: int) -> list[str]:
        words = make(tmp_path, last_epochs=epochs).train_options(Run("cgc", 1, tmp_path))
        return merge_options(words)["--keep-last-epochs"]

    assert (kept(3), kept(10), kept(20)) == (["10"], ["10"], ["20"])


def test_each_run_has_a_gpu_or_its_share_of_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(runs_module.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    experiment = make(tmp_path, jobs=3)
    found = [experiment._environment(slot) for slot in range(3)]
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in found] == ["0", "1", "0"]
    assert [environment["OMP_NUM_THREADS"] for environment in found] == ["2", "2", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    found = [experiment._environment(slot) for slot in range(3)]
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in found] == ["2", "5", "2"]
    assert make(tmp_path, jobs=3, cpu=True)._environment(0) == {"OMP_NUM_THREADS": "2"}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert experiment._environment(2) == {"OMP_NUM_THREADS": "2"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert experiment._environment(2) == {"OMP_NUM_THREADS": "5"}


class TestPerform:
    """Two runs at a time; those of seed 1 end at once, those of seed 7 when they are stopped."""

    @pytest.fixture
    def experiment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
        stopped = threading.Event()
        self.begun: list[Run] = []

        def perform(self_: Experiment, run: Run, parameters: int, slots: object) -> Any:
            self.begun.append(run)
            if run.seed == 7 and not stopped.wait(60):
                raise AssertionError("nobody stopped it")
            return RunResult(run, parameters, {}, Speed(1, 1.0, 1.0), {}, {})

        monkeypatch.setattr(Experiment, "check_data", lambda self: None)
        monkeypatch.setattr(Experiment, "parameters", lambda self: {"lightconv": 2, "cgc": 3})
        monkeypatch.setattr(Experiment, "_perform", perform)
        monkeypatch.setattr(runs_module, "stop_fairseq", stopped.set)
        return make(tmp_path, seeds=[1, 7, 8], jobs=2)

    def test_when_time_is_over_what_is_under_way_is_stopped(self, experiment: Experiment) -> None:
        *_, results = experiment.perform(seconds=1.0)
        assert [(r.run.system, r.run.seed, r.parameters) for r in results] == [
            ("lightconv", 1, 2),
            ("cgc", 1, 3),
        ]
        assert [run.seed for run in self.begun] == [1, 1, 7, 7]

    def test_without_a_limit_all_are_done(self, experiment: Experiment) -> None:
        runs_module.stop_fairseq()
        *_, results = experiment.perform()
        assert [result.run for result in results] == experiment.runs()

    def test_the_caller_can_end_it(self, experiment: Experiment) -> None:
        results = experiment.perform()
        while len(next(results)) < 2:
            pass
        results.close()
        assert all(run.seed != 8 for run in self.begun)


def test_the_commands_are_whole_and_quoted(tmp_path: Path) -> None:
    experiment = make(tmp_path, out=tmp_path / "my runs", systems=["cgc"], seeds=[1])
    comment, train, average, *generate = commands(experiment)
    assert comment == "# LightConv + CGC encoder, seed 1"
    words = shlex.split(train)
    assert words[:2] == ["fairseq-train", str(tmp_path / "data")]
    assert words[words.index("--save-dir") + 1] == str(tmp_path / "my runs" / "cgc-seed1")
    model = str(tmp_path / "my runs" / "cgc-seed1" / "average-last-epochs-10.pt")
    assert shlex.split(average)[-3:] == ["10", "--output", model]
    for beam, line in zip(("5", "6"), generate, strict=True):
        words = shlex.split(line)
        assert words[words.index("--gen-subset") + 1] == "test"
        assert words[:4] == ["fairseq-generate", str(tmp_path / "data"), "--path", model]
        assert words[words.index("--beam") + 1] == beam


def test_another_split_is_translated(tmp_path: Path) -> None:
    *_, generate = commands(make(tmp_path, split="valid"))
    words = shlex.split(generate)
    assert words[words.index("--gen-subset") + 1] == "valid"


@pytest.mark.parametrize("kind", MODEL_FILES)
def test_subwords_are_removed_as_they_were_made(kind: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    choices = {"tokenizer": "moses", "normalize": True, "lowercase": True, "subwords": kind}
    text = TextPipeline("en", "de", **choices, subword_model="m", joined_dictionary=True)
    text.save(tmp_path / "data")
    *_, generate = commands(make(tmp_path))
    words = shlex.split(generate)
    assert words[words.index("--post-process") + 1] == kind


def test_another_test_set_has_a_name_and_the_same_dictionaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "split_files", lambda *arguments: [])
    monkeypatch.setattr(runs_module, "plain_references", lambda *arguments: None)
    test_data = tmp_path / "test2017" / "bin"
    for folder in (tmp_path / "data", test_data):
        folder.mkdir(parents=True)
        for lang in ("en", "de"):
            (folder / f"dict.{lang}.txt").write_text("word 1\n", encoding="utf-8")
    experiment = make(tmp_path, test_data=test_data)
    assert experiment.test_name == "test2017-test"
    assert make(tmp_path).test_name == "test"
    experiment.check_data()
    *_, generate = commands(experiment)
    assert shlex.split(generate)[1] == str(test_data)
    (test_data / "dict.de.txt").write_text("other 1\n", encoding="utf-8")
    with pytest.raises(UserError, match="--test-data .*bin has another dict.de.txt than .*data"):
        experiment.check_data()


def test_the_commands_of_all_systems_have_their_options_and_the_users(tmp_path: Path) -> None:
    systems, extra = list(SYSTEMS), ["--bf16", "--max-update", "4000"]
    experiment = make(tmp_path, systems=systems, seeds=[1], extra_options=extra)
    words = [shlex.split(line) for line in commands(experiment)]
    trains = [line for line in words if line[0] == "fairseq-train"]
    options = [merge_options(line[2:]) for line in trains]
    assert all(o["--bf16"] == [] and o["--max-update"] == ["4000"] for o in options)
    found = dict(zip(systems, options, strict=True))
    assert found["lightconv"]["--encoder-gate-target"] == ["none"]
    assert found["cgc-heads"]["--encoder-gate-norm"] == ["heads"]
    assert found["cgc-source"]["--decoder-gate"] == ["source"]
    assert found["cgc-logits"]["--encoder-gate-target"] == ["logits"]
    assert found["dynamic"]["--encoder-conv-type"] == ["dynamic"]
    ours = [name for name in systems if found[name]["--arch"] == ["lightconv_cgc_tiny"]]
    assert ours == ["lightconv", "cgc", "cgc-heads", "cgc-source", "cgc-logits"]


def test_without_training_only_runs_that_have_been_trained_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = {"cgc-seed1": 8000, "cgc-seed7": 4000, "lightconv-seed7": 8000}
    monkeypatch.setattr(
        runs_module, "finished_updates", lambda data, folder, options: ended.get(folder.name)
    )
    runs = make(tmp_path, train=False).runs()
    assert [run.folder.name for run in runs] == ["cgc-seed1", "lightconv-seed7"]


def test_a_run_that_was_extended_is_its_stage_for_the_updates_of_then(tmp_path: Path) -> None:
    stage = tmp_path / "out" / "cgc-seed1" / "stage-4000"
    stage.mkdir(parents=True)
    before = make(tmp_path, seeds=[1], extra_options=["--max-update", "4000"])
    assert [run.folder for run in before.runs()] == [tmp_path / "out" / "lightconv-seed1", stage]
    assert [run.folder.name for run in make(tmp_path, seeds=[1]).runs()][1] == "cgc-seed1"


def test_one_file_of_references_is_of_one_split() -> None:
    with pytest.raises(UserError, match="--split is test, test1, but with --reference must be one"):
        ReproduceOptions(reference=Path("test.de"), split="test, test1")
    ReproduceOptions(reference=Path("test.de"), split="test,test")


def test_a_folder_whose_name_fairseq_splits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    for lang in ("de", "en"):
        (tmp_path / "a:b" / f"dict.{lang}.txt").touch()
    with pytest.raises(UserError, match="a:b must not contain ':', by which fairseq separates"):
        make(tmp_path, data_dir=tmp_path / "a:b").parameters()


def test_without_a_gpu_gates_are_computed_without_one_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(
        translation_reports, "report_gates", lambda *_, **options: given.append(options) or {}
    )
    monkeypatch.setattr(
        Experiment, "model", lambda self, run: SimpleNamespace(path=run.folder / "x.pt")
    )
    reproduce._report_gates(make(tmp_path, cpu=True))
    assert [options["options"].cpu for options in given] == [True]  # of the gated system alone
