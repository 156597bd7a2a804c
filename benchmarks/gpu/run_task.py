#!/usr/bin/env python3
"""One task on a GPU machine; it ends before its time is over, and the same command continues it.

    python benchmarks/gpu/run_task.py [options] TASK [what the task's program takes]

    ... tests                               pytest: what needs a GPU, then the tests of the core
    ... op --quick                          benchmarks/run.py --sections op --device cuda --quick
    ... step                                likewise; and decode, conv
    ... train lightconv,cgc 1,2,3 --jobs 6  fairseq-cgc reproduce multi30k: systems, seeds, options

Exit status: 0 done, 75 time over and more to do, anything else an error. Results are in --out;
what is needed to continue, in --work: a task whose work folder is gone starts anew.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[2]
#: Exit status when the time is over before the end; fairseq-cgc reproduce has it too.
UNFINISHED = 75
#: Seconds before the end at which a command is asked to end, is killed, and of what
#: fairseq-cgc reproduce needs after its last training for its table.
_ASKED, _KILLED, _TABLE = 15.0, 5.0, 20.0
_NO_TESTS = 5  # pytest's exit status


@dataclass(frozen=True)
class Task:
    """What a command line asks for."""

    name: str
    arguments: list[str]
    """Of the program that does it."""
    kit: Path
    work: Path
    out: Path
    end: float
    """``time.monotonic()`` at which this program must have ended."""
    models: bool
    """Whether averaged models are among the results of ``train``."""
    mps: bool
    """Whether the runs of ``train`` shall share the GPU by NVIDIA's MPS."""

    def run(self, command: list[str], variables: Mapping[str, str] | None = None) -> int:
        """Run a Python program from the repository's folder; show its output and keep it.

        Args:
            command: what ``python`` gets.
            variables: added to this process's environment.

        Returns:
            Its exit status, :data:`UNFINISHED` if it was ended because time was over.
        """
        words = [sys.executable, *command]
        environment = {**os.environ, **(variables or {})}
        paths = [str(ROOT), f"{self.kit}-site", environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        environment["PYTHONUNBUFFERED"] = "1"
        environment["TQDM_MININTERVAL"] = "30"  # seconds: the bars go to a file
        print(f"$ {shlex.join(words)}", flush=True)
        log = self.out / f"{self.name}.log"
        with log.open("ab") as sink, log.open("rb") as shown:
            shown.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                words,
                cwd=ROOT,
                env=environment,
                stdout=sink,
                stderr=subprocess.STDOUT,
                preexec_fn=_listen,
            )
            try:
                over = self._wait(process, lambda: _show(shown.read()))
            finally:
                process.kill()
                status = process.wait()
                _show(shown.read())
        return UNFINISHED if over and status != 0 else status

    def _wait(self, process: subprocess.Popen[bytes], show: Callable[[], None]) -> bool:
        """Wait for the end of a process; whether it was ended because time was over."""
        over = False
        try:
            while process.poll() is None:
                left = self.end - time.monotonic()
                if left < _ASKED and not over:
                    over = True
                    process.send_signal(signal.SIGINT)
                if left < _KILLED:
                    process.kill()
                time.sleep(0.2)
                show()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            time.sleep(2)  # then killed; what it has started ends with it
            raise
        return over


def _listen() -> None:
    # What a shell starts in the background is deaf to SIGINT, and so would be its children.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> int:
    """Do what the command line says."""
    started = time.monotonic()
    task = parse_args(started)
    signal.signal(signal.SIGTERM, _interrupt)
    for folder in (task.out, task.work):
        folder.mkdir(parents=True, exist_ok=True)
    (task.out / f"{task.name}.log").unlink(missing_ok=True)
    try:
        status = {"tests": run_tests, "train": run_train}.get(task.name, run_benchmark)(task)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    seconds = time.monotonic() - started
    state = {0: "done", UNFINISHED: "time is over; the same command continues"}
    print(f"{task.name}: {state.get(status, f'failed, status {status}')} ({seconds:.0f} s)")
    print(f"results: {', '.join(sorted(path.name for path in task.out.iterdir()))} in {task.out}")
    return status


def parse_args(started: float) -> Task:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kit", type=Path, default=ROOT / "gpu-kit", help="made by pack.sh (%(default)s)"
    )
    parser.add_argument(
        "--work", type=Path, default=ROOT / "gpu-work", help="kept between calls (%(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "gpu-results", help="for results (%(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=8.5, help="time at most (%(default)s)")
    parser.add_argument("--models", action="store_true", help="train: the averaged models in --out")
    parser.add_argument(
        "--mps", action="store_true", help="train: share the GPU by NVIDIA's MPS, if it is there"
    )
    parser.add_argument("task", choices=["tests", "op", "step", "decode", "conv", "train"])
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the task")
    args = parser.parse_args()
    least = 2 * (_ASKED + _TABLE) / 60
    if not least <= args.minutes < float("inf"):
        sys.exit(f"error: --minutes is {args.minutes:g}, but must be at least {least:.1f}")
    return Task(
        name=args.task,
        arguments=args.arguments,
        kit=args.kit.resolve(),
        work=args.work.resolve(),
        out=args.out.resolve(),
        end=started + 60 * args.minutes,
        models=args.models,
        mps=args.mps,
    )


def run_tests(task: Task) -> int:
    """The tests on the GPU, then the core's; side by side: each compiles its own kernels."""
    workers = str(max(1, (os.cpu_count() or 1) // 2))
    kinds = {"gpu": ["-m", "gpu"], "core": ["-m", "not gpu", "tests/core"]}
    record, statuses = {}, []
    for kind, options in kinds.items():
        path = task.work / f"tests-{kind}.xml"
        path.unlink(missing_ok=True)
        options += ["-n", workers, "--dist", "loadgroup", "--junitxml", str(path)]
        command = ["-m", "pytest", *options, *task.arguments]
        status = task.run(command)
        record[kind] = {"command": ["python", *command], "status": status, **count_tests(path)}
        statuses.append(0 if status == _NO_TESTS else status)
    _write_json(task.out / "tests.json", record)
    return next((status for status in statuses if status != 0), 0)


def count_tests(report: Path) -> dict[str, float]:
    """Numbers of a JUnit report; empty if there is none."""
    if not report.exists():
        return {}
    (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    names = ("tests", "failures", "errors", "skipped")
    numbers = {name: float(suite.get(name, 0)) for name in names}
    return {**numbers, "seconds": float(suite.get("time", 0))}


def run_benchmark(task: Task) -> int:
    """One section of ``benchmarks/run.py``, which keeps every finished row."""
    kept = task.work / task.name
    options = ["--sections", task.name, "--device", "cuda", "--out", str(kept)]
    # fairseq's kernel is there for the convolution alone: its models would take it unasked.
    variables = {}
    if task.name == "op":
        paths = (str(task.kit / "fairseq-kernel"), os.environ.get("PYTHONPATH", ""))
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    status = task.run(["benchmarks/run.py", *options, *task.arguments], variables)
    if kept.is_dir():
        shutil.copytree(kept, task.out / task.name, dirs_exist_ok=True)
    return status


def run_train(task: Task) -> int:
    """Train and score on *test*; when all runs are through, score on *valid* too."""
    data, reference = task.kit / "multi30k", task.kit / "multi30k-test.de"
    if not data.is_dir():
        sys.exit(f"error: {data} does not exist: pack with --data")
    if len(task.arguments) < 2 or any(word.startswith("-") for word in task.arguments[:2]):
        sys.exit("error: train needs systems and seeds: train lightconv,cgc 1,2,3")
    systems, seeds, *options = task.arguments
    runs = len(systems.split(",")) * len(seeds.split(","))
    jobs = min(runs, max(1, (os.cpu_count() or 1) // 2))  # a training and its loader of data
    kept = task.work / "train"
    command = [
        *("-m", "fairseq_cgc", "reproduce", "multi30k", "--data", str(data), "--out", str(kept)),
        *("--systems", systems, "--seeds", seeds, "--jobs", str(jobs), "--beam", "5,6"),
    ]
    references = ["--reference", str(reference)] if reference.exists() else []
    begun = time.time()
    with sharing(task) as variables:
        status = task.run([*command, *references, *options, *_minutes(task)], variables)
        if status == 0:  # one beam is enough to choose by
            command += ["--beam", "5", *options, "--split", "valid"]
            status = task.run([*command, *_minutes(task)], variables)
    collect_training(kept, task.out, begun, models=task.models)
    return status


@contextmanager
def sharing(task: Task) -> Iterator[dict[str, str]]:
    """What lets several programs use the GPU at once, and not in turn: variables for each of them.

    That is the work of a daemon of the user's own, which changes no setting of the GPU. Where there
    is none, or it does not work, there are no variables.
    """
    control = shutil.which("nvidia-cuda-mps-control")
    if not task.mps or control is None:
        if task.mps:
            print("without MPS: there is no nvidia-cuda-mps-control")
        yield {}
        return
    folder = task.work / "mps"
    folder.mkdir(exist_ok=True)
    names = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")
    variables = dict.fromkeys(names, str(folder))
    environment = {**os.environ, **variables}
    try:
        trial = [sys.executable, "-c", "import torch; torch.ones(2, device='cuda').sum().item()"]
        _quietly([control, "-d"], environment)  # fails where it runs already: the trial says
        works = _quietly(trial, environment)
        print("with MPS" if works else "without MPS: a trial failed")
        yield variables if works else {}
    finally:
        _quietly([control], environment, given=b"quit\n", seconds=3)


def _quietly(
    command: list[str], environment: dict[str, str], *, given: bytes = b"", seconds: float = 60
) -> bool:
    """Whether a command ends well, and in time."""
    try:
        status = subprocess.run(
            command,
            env=environment,
            input=given,
            timeout=seconds,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ).returncode
    except subprocess.TimeoutExpired:
        return False
    return status == 0


def _minutes(task: Task) -> list[str]:
    left = task.end - time.monotonic() - _ASKED - _TABLE
    return ["--minutes", f"{max(left, 1) / 60:.3f}"]


def collect_training(kept: Path, out: Path, begun: float, *, models: bool = False) -> None:
    """Copy the results of ``fairseq-cgc reproduce``.

    Args:
        kept: its ``--out``.
        out: for ``train.json`` (how far each run is, with losses; scores of *test* and *valid*),
            and ``train.tar.gz`` (tables, pictures, translations and their scores).
        begun: ``time.time()``; older tables are of other runs, and are left out.
        models: copy each averaged model as ``SYSTEM-seedSEED.pt``.
    """
    names = {"standing": "standing", "test": "results", "valid": "results-valid"}
    files = {key: kept / f"{name}.json" for key, name in names.items()}
    fresh = {key: path for key, path in files.items() if _is_newer(path, begun)}
    record = {key: json.loads(path.read_text(encoding="utf-8")) for key, path in fresh.items()}
    _write_json(out / "train.json", record)
    patterns = ("*.md", "*.png", *(f"*/*.beam*/{name}" for name in ("*.txt", "*.json")))
    with tarfile.open(out / "train.tar.gz", "w:gz", compresslevel=6) as archive:
        for path in sorted(path for pattern in patterns for path in kept.glob(pattern)):
            if len(path.relative_to(kept).parts) > 1 or _is_newer(path, begun):
                archive.add(path, path.relative_to(kept))
    for path in kept.glob("*/average-*.pt") if models else ():
        shutil.copyfile(path, out / f"{path.parent.name}.pt")


def _is_newer(path: Path, moment: float) -> bool:
    return path.exists() and path.stat().st_mtime >= moment


def _write_json(path: Path, record: object) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _show(output: bytes) -> None:
    sys.stdout.buffer.write(output)
    sys.stdout.flush()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
