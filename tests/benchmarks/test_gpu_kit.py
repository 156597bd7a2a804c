"""The kit for a GPU machine without network: its tasks end in time, and bad input in one line."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import ModuleType

import pytest
import toy

KIT = toy.ROOT / "benchmarks" / "gpu"


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``run_task.py``, with less time to end in."""
    spec = importlib.util.spec_from_file_location("gpu_run_task", KIT / "run_task.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    for name, seconds in (("_ASKED", 4.0), ("_KILLED", 2.0), ("_TABLE", 6.0)):
        monkeypatch.setattr(module, name, seconds)
    return module


def make_task(kit: ModuleType, tmp_path: Path, name: str = "op", left: float = 600, *words: str):
    folders = {key: tmp_path / key for key in ("kit", "work", "out")}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    end = time.monotonic() + left
    return kit.Task(name=name, arguments=list(words), end=end, models=False, mps=False, **folders)


class TestRun:
    def test_status_and_output_are_passed_on(
        self, kit: ModuleType, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        task = make_task(kit, tmp_path)
        assert task.run(["-c", "print('out'); import sys; sys.exit('err')"]) == 1
        assert task.run(["-c", "print('more')"]) == 0
        log = (task.out / "op.log").read_text(encoding="utf-8")
        assert log == "out\nerr\nmore\n"
        shown = capfdbinary.readouterr().out.decode()
        assert [line for line in shown.splitlines() if not line.startswith("$")] == log.split()

    def test_it_runs_in_the_repository_with_the_packages_of_the_kit(
        self, kit: ModuleType, tmp_path: Path
    ) -> None:
        task = make_task(kit, tmp_path)
        task.run(["-c", "import os; print(os.getcwd(), os.environ['PYTHONPATH'])"])
        folder, paths = (task.out / "op.log").read_text(encoding="utf-8").split()
        assert folder == str(toy.ROOT)
        assert paths.split(os.pathsep)[:2] == [str(toy.ROOT), f"{task.kit}-site"]

    def test_what_is_under_way_when_time_is_over_is_asked_to_end(
        self, kit: ModuleType, tmp_path: Path
    ) -> None:
        task = make_task(kit, tmp_path, left=12)  # some seconds for Python to start
        program = "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: exit('saved')"
        assert task.run(["-c", program]) == kit.UNFINISHED
        assert (task.out / "op.log").read_text(encoding="utf-8") == "saved\n"

    def test_what_does_not_listen_is_killed(self, kit: ModuleType, tmp_path: Path) -> None:
        task = make_task(kit, tmp_path, left=5)
        program = (
            "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
        )
        assert task.run(["-c", program]) == kit.UNFINISHED
        assert time.monotonic() < task.end + 30

    def test_what_ends_well_when_asked_is_done(self, kit: ModuleType, tmp_path: Path) -> None:
        task = make_task(kit, tmp_path, left=12)  # some seconds for Python to start
        program = "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: pass"
        assert task.run(["-c", program]) == 0


class TestTrain:
    @pytest.fixture
    def commands(self, kit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        """What would be run, and with which status it would end."""
        found: list[list[str]] = []
        statuses = [0, 0]

        def run(task: object, command: list[str], variables: dict[str, str]) -> int:
            found.append(command)
            self.variables = variables
            return statuses[len(found) - 1]

        monkeypatch.setattr(kit.Task, "run", run)
        monkeypatch.setattr(kit.os, "cpu_count", lambda: 8)
        self.statuses = statuses
        return found

    def prepare(self, kit: ModuleType, tmp_path: Path, *words: str):
        task = make_task(kit, tmp_path, "train", 600, *words)
        (task.kit / "multi30k").mkdir()
        return task

    def test_test_then_valid(
        self, kit: ModuleType, tmp_path: Path, commands: list[list[str]]
    ) -> None:
        task = self.prepare(kit, tmp_path, "lightconv,cgc", "1,2,3", "--max-update", "9")
        (task.kit / "multi30k-test.de").touch()
        assert kit.run_train(task) == 0
        test, valid = commands
        assert test[:4] == ["-m", "fairseq_cgc", "reproduce", "multi30k"]
        for command in commands:
            options = dict(zip(command[4:], command[5:], strict=False))
            assert options["--data"] == str(task.kit / "multi30k")
            assert options["--out"] == str(task.work / "train")
            assert (options["--systems"], options["--seeds"]) == ("lightconv,cgc", "1,2,3")
            assert options["--jobs"] == "4"
            assert options["--max-update"] == "9"
            assert float(options["--minutes"]) == pytest.approx((600 - 4 - 6) / 60, abs=0.5)
        assert "--reference" in test and "--split" not in test
        assert "--reference" not in valid and "valid" in valid
        assert "5,6" in test and "--beam 5 --max-update" in " ".join(valid)
        assert self.variables == {}

    def test_valid_waits_for_all_trainings(
        self, kit: ModuleType, tmp_path: Path, commands: list[list[str]]
    ) -> None:
        self.statuses[0] = kit.UNFINISHED
        assert kit.run_train(self.prepare(kit, tmp_path, "cgc", "1")) == kit.UNFINISHED
        assert len(commands) == 1 and "--reference" not in commands[0]

    def test_mps_is_started_for_the_trainings_and_ended(
        self,
        kit: ModuleType,
        tmp_path: Path,
        commands: list[list[str]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        daemon, said = tmp_path / "nvidia-cuda-mps-control", tmp_path / "said"
        daemon.write_text(f'#!/bin/sh\necho "$1" "$(cat)" "$CUDA_MPS_PIPE_DIRECTORY" >>{said}\n')
        daemon.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        task = dataclasses.replace(self.prepare(kit, tmp_path, "cgc", "1"), mps=True)
        for interpreter, variables in (("true", 2), ("false", 0)):
            monkeypatch.setattr(kit.sys, "executable", interpreter)  # of the trial
            commands.clear()
            assert kit.run_train(task) == 0
            assert list(self.variables.values()) == [str(task.work / "mps")] * variables
        assert said.read_text() == f"-d  {task.work / 'mps'}\n quit {task.work / 'mps'}\n" * 2

    def test_systems_and_seeds_must_be_given(self, kit: ModuleType, tmp_path: Path) -> None:
        with pytest.raises(SystemExit, match="error: train needs systems and seeds"):
            kit.run_train(self.prepare(kit, tmp_path, "cgc", "--jobs", "2"))

    def test_data_must_be_packed(self, kit: ModuleType, tmp_path: Path) -> None:
        with pytest.raises(SystemExit, match="multi30k does not exist: pack with --data"):
            kit.run_train(make_task(kit, tmp_path, "train", 600, "cgc", "1"))

    def test_results_of_other_runs_are_left_out(self, kit: ModuleType, tmp_path: Path) -> None:
        kept, out = tmp_path / "kept", tmp_path / "out"
        (kept / "cgc-seed1" / "test.beam5").mkdir(parents=True)
        out.mkdir()
        (kept / "cgc-seed1" / "test.beam5" / "hypotheses.txt").write_text("ein satz\n")
        (kept / "cgc-seed1" / "average-last-epochs-10.pt").write_bytes(b"model")
        for name in ("standing.json", "results.json", "results-valid.json", "results.md"):
            (kept / name).write_text(json.dumps(name))
        begun = time.time() - 60
        old = (begun - 60, begun - 60)
        for name in ("results-valid.json", "results.md"):
            os.utime(kept / name, old)
        kit.collect_training(kept, out, begun)
        record = json.loads((out / "train.json").read_text())
        assert record == {"standing": "standing.json", "test": "results.json"}
        with tarfile.open(out / "train.tar.gz") as archive:
            assert archive.getnames() == ["cgc-seed1/test.beam5/hypotheses.txt"]
        assert not list(out.glob("*.pt"))
        kit.collect_training(kept, out, begun, models=True)
        assert (out / "cgc-seed1.pt").read_bytes() == b"model"


def test_a_benchmark_continues_in_the_work_folder_and_is_copied(
    kit: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(kit, tmp_path, "step", 600, "--quick", "--device", "cpu")
    commands = []

    def run(task: object, command: list[str], variables: dict[str, str]) -> int:
        commands.append(command)
        assert variables == {}
        folder = Path(command[command.index("--out") + 1])
        folder.mkdir()
        (folder / "step.json").write_text("{}")
        return kit.UNFINISHED

    monkeypatch.setattr(kit.Task, "run", run)
    assert kit.run_benchmark(task) == kit.UNFINISHED
    (command,) = commands
    assert command == [
        "benchmarks/run.py", "--sections", "step", "--device", "cuda",
        "--out", str(task.work / "step"), "--quick", "--device", "cpu",
    ]  # fmt: skip
    assert (task.out / "step" / "step.json").read_text() == "{}"


def test_fairseqs_kernel_is_there_for_the_convolution_alone(
    kit: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "of-the-user")
    for name, shown in (("op", True), ("conv", False)):
        task = make_task(kit, tmp_path, name, 60)
        kit.ROOT = tmp_path
        (tmp_path / "benchmarks").mkdir(exist_ok=True)
        program = "import os; print(os.environ['PYTHONPATH'])"
        (tmp_path / "benchmarks" / "run.py").write_text(program)
        assert kit.run_benchmark(task) == 0
        paths = (task.out / f"{name}.log").read_text().strip().split(os.pathsep)
        assert (str(task.kit / "fairseq-kernel") in paths) == shown and "of-the-user" in paths


def test_pytests_numbers_are_read(
    kit: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = '<testsuite tests="7" failures="1" errors="0" skipped="2" time="3.5" />'
    statuses = iter([5, 1])  # 5: there is no such test

    def run(task: object, command: list[str]) -> int:
        Path(command[command.index("--junitxml") + 1]).write_text(f"<a>{suite}</a>")
        return next(statuses)

    monkeypatch.setattr(kit.Task, "run", run)
    task = make_task(kit, tmp_path, "tests")
    assert kit.run_tests(task) == 1
    record = json.loads((task.out / "tests.json").read_text())
    assert [record[kind]["status"] for kind in ("gpu", "core")] == [5, 1]
    assert record["core"]["failures"] == 1 and record["core"]["seconds"] == 3.5
    assert kit.count_tests(tmp_path / "missing.xml") == {}
    statuses = iter([5, 0])
    assert kit.run_tests(dataclasses.replace(task)) == 0


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("run_task.py", ["--minutes", "0.5", "op"], "--minutes is 0.5, but must be at least 1.2"),
        ("pack.sh", ["--data", "nowhere", "kit"], "--data nowhere has no train.en"),
        ("pack.sh", ["--iwslt", "nowhere"], "--iwslt nowhere has no test.de-en.de.bin"),
        ("pack.sh", ["--reference", "nowhere"], "--reference nowhere is no file"),
        ("pack.sh", ["--data"], "--data needs a value"),
        ("pack.sh", ["--jobs"], "unknown option '--jobs'; allowed: --data, --reference, --iwslt,"),
        ("pack.sh", ["--fairseq-kernel", "k.so"], "--fairseq-kernel k.so is no file"),
        ("build_fairseq_kernel.sh", ["a"], "two folders must be given, but there are 1 arguments"),
        ("build_fairseq_kernel.sh", ["a", "b"], "a has no fairseq/modules/lightconv_layer/"),
        ("pack.sh", ["a", "b"], "two folders, 'a' and 'b'"),
        ("pack.sh", ["there"], "there exists, but is no packed kit; it is not overwritten"),
        ("setup.sh", ["nowhere"], "nowhere is no packed kit; make it with benchmarks/gpu/pack.sh"),
        ("setup.sh", ["a", "b"], "one folder at most, but there are 2 arguments"),
    ],
)
def test_wrong_arguments_end_in_one_line(
    script: str, arguments: list[str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    program = sys.executable if script.endswith(".py") else "bash"
    result = subprocess.run(
        [program, str(KIT / script), *arguments], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {message}") and result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
