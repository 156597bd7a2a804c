"""Several processes: joined, equal to one, and never two trainings in one folder."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import demo_training
import pytest
import torch
import warm
from conftest import Trained
from fairseq.distributed import utils as distributed_utils
from omegaconf import OmegaConf
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from fairseq_cgc.compat.processes import join_processes, refuse_to_train_alone
from fairseq_cgc.core import UserError
from fairseq_cgc.support.checkpoints import safe_load

pytestmark = [pytest.mark.reliability, pytest.mark.xdist_group("reliability")]

#: Without dropout, which two processes draw otherwise than one.
PLAIN = [
    *("--dropout", "0", "--weight-dropout", "0", "--max-epoch", "2"),
    *("--save-interval-updates", "2"),
]


def train_command(data: Path, save_dir: Path) -> list[str | Path]:
    return ["train", data, "--save-dir", save_dir, *demo_training.MODEL, *PLAIN]


def torchrun(data: Path, save_dir: Path, output: Path) -> subprocess.Popen[bytes]:
    name, *arguments = train_command(data, save_dir)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", free_port(), "-m", f"fairseq_cli.{name}", *map(str, arguments)]
    paths = f"{warm.PACKAGE.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with output.open("wb") as stream:
        return subprocess.Popen(
            [*command, "--user-dir", str(warm.PACKAGE)],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        )


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def by_hand(data: Path, save_dir: Path, logs: Path) -> list[Any]:
    """Both processes, started one by one."""
    address = f"tcp://127.0.0.1:{free_port()}"
    return [
        warm.start(
            logs / f"{rank}.log", *train_command(data, save_dir),
            "--distributed-world-size", "2", "--distributed-rank", str(rank),
            "--distributed-no-spawn", "--distributed-backend", "gloo",
            "--distributed-init-method", address,
        )
        for rank in range(2)
    ]  # fmt: skip


def wait_for(happened: Callable[[], bool], is_running: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert is_running() and time.monotonic() < deadline
        time.sleep(0.01)


def weights(save_dir: Path) -> dict[str, torch.Tensor]:
    return safe_load(save_dir / "checkpoint_last.pt")["model"]


def finish(data: Path, save_dir: Path, logs: Path) -> None:
    """Both processes to the end of the training."""
    for rank, process in enumerate(by_hand(data, save_dir, logs)):
        result = warm.end(process, logs / f"{rank}.log")
        assert result.status == 0, result.output[-3000:]


@pytest.fixture(scope="module")
def whole(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes make of a training that is not interrupted."""
    folder = tmp_path_factory.mktemp("two")
    finish(trained.data, folder / "save", folder)
    return folder / "save"


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batches(
    whole: Path, trained: Trained, tmp_path: Path
) -> None:
    command = [*train_command(trained.data, tmp_path / "save"), "--update-freq", "2"]
    result = warm.run(tmp_path / "log", *command)
    assert result.status == 0, result.output[-3000:]
    one = safe_load(tmp_path / "save" / "checkpoint_last.pt")
    two = safe_load(whole / "checkpoint_last.pt")
    ours, theirs = one["optimizer_history"][-1], two["optimizer_history"][-1]
    assert ours["num_updates"] == theirs["num_updates"] > 4
    for name, tensor in one["model"].items():
        torch.testing.assert_close(two["model"][name], tensor, rtol=0, atol=1e-6)
    assert one["extra_state"]["val_loss"] == pytest.approx(two["extra_state"]["val_loss"], 1e-6)


@pytest.mark.slow
def test_a_killed_process_ends_torchrun_and_the_training_goes_on(
    whole: Path, trained: Trained, tmp_path: Path
) -> None:
    """That the result is bit by bit the same also says that torchrun's processes trained one."""
    save_dir, log = tmp_path / "save", tmp_path / "log"
    process = torchrun(trained.data, save_dir, log)
    wait_for((save_dir / "checkpoint_last.pt").exists, lambda: process.poll() is None)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    assert process.wait(120) != 0
    assert re.search("SIGKILL|another process of this training ended", log.read_text())
    finish(trained.data, save_dir, tmp_path)
    ours, theirs = weights(save_dir), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_a_killed_process_ends_the_other_in_one_line(trained: Trained, tmp_path: Path) -> None:
    save_dir = tmp_path / "save"
    survivor, killed = by_hand(trained.data, save_dir, tmp_path)
    wait_for((save_dir / "checkpoint_last.pt").exists, killed.is_alive)
    killed.kill()
    result = warm.end(survivor, tmp_path / "0.log")
    [line] = result.errors
    assert "another process of this training ended, or cannot be reached" in line
    assert result.status == 1 and "Traceback" not in result.output
    safe_load(save_dir / "checkpoint_last.pt")


@pytest.mark.slow
def test_sigterm_to_one_process_stops_both_after_the_same_update(
    whole: Path, trained: Trained, tmp_path: Path
) -> None:
    save_dir = tmp_path / "save"
    processes = by_hand(trained.data, save_dir, tmp_path)
    wait_for((save_dir / "checkpoint_last.pt").exists, processes[0].is_alive)
    os.kill(processes[1].pid, signal.SIGTERM)
    results = [warm.end(process, tmp_path / f"{i}.log") for i, process in enumerate(processes)]
    assert [result.status for result in results] == [143, 143], results[0].output[-3000:]
    assert "SIGTERM: stopped after update" in results[0].output
    finish(trained.data, save_dir, tmp_path)
    ours, theirs = weights(save_dir), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_a_second_training_in_the_same_folder_is_refused(trained: Trained, tmp_path: Path) -> None:
    save_dir = tmp_path / "save"
    first = warm.start(tmp_path / "first", *train_command(trained.data, save_dir))
    wait_for((save_dir / "checkpoint_last.pt").exists, first.is_alive)
    second = warm.run(tmp_path / "second", *train_command(trained.data, save_dir))
    [line] = second.errors
    assert f"another training (process {first.pid}) writes there" in line
    assert second.status == 1 and "Traceback" not in second.output
    first.kill()
    first.join()
    command = [*train_command(trained.data, save_dir), "--max-update", "2"]
    again = warm.run(tmp_path / "again", *command)
    assert again.status == 0, again.output[-3000:]


def test_a_process_does_not_train_alone(trained: Trained, tmp_path: Path) -> None:
    started = {"WORLD_SIZE": "2", "RANK": "1"}  # but not told where the other is
    command = train_command(trained.data, tmp_path / "save")
    result = warm.run(tmp_path / "log", *command, **started)
    [line] = result.errors
    assert "WORLD_SIZE is 2, but this process would train alone" in line
    assert result.status == 1 and not list((tmp_path / "save").glob("*.pt"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="fairseq starts processes on GPUs itself")
def test_processes_that_fairseq_cannot_start(trained: Trained, tmp_path: Path) -> None:
    command = [*train_command(trained.data, tmp_path), "--distributed-world-size", "2"]
    [line] = warm.run(tmp_path / "log", *command).errors
    assert "--distributed-world-size is 2, but there is no GPU" in line and "torchrun" in line


def config(**training: Any) -> Any:
    values = {
        "distributed_init_method": None, "distributed_world_size": 1, "distributed_rank": 0,
        "distributed_backend": "nccl", "distributed_no_spawn": False, "device_id": 0,
        "pipeline_model_parallel": False,
    }  # fmt: skip
    return OmegaConf.create(
        {
            "common": {"cpu": False},
            "checkpoint": {"no_save": True, "save_dir": "save"},
            "distributed_training": {**values, **training},
        }
    )


@pytest.mark.parametrize("gpus", [0, 2])
def test_the_place_that_torchrun_gives(gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "a"}
    for name, value in {**place, "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(distributed_utils, "call_main", lambda cfg, main: main(cfg))
    join_processes()
    cfg = config()
    distributed_utils.call_main(cfg, refuse_to_train_alone)
    training = cfg.distributed_training
    assert (training.distributed_world_size, training.distributed_rank) == (4, 3)
    assert (training.distributed_init_method, training.distributed_no_spawn) == ("env://", True)
    assert training.device_id == (1 if gpus else 0)
    assert training.distributed_backend == ("nccl" if gpus else "gloo")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ProcessRaisedException(
                "\n\n-- Process 1 terminated with the following error:\nTraceback ...\n"
                "fairseq_cgc.support.errors.UserError: --beam is 0\n", 1, 2
            ),
            "--beam is 0",
        ),
        (
            ProcessExitedException("process 0 terminated with signal SIGKILL", 0, 1, -9, "SIGKILL"),
            "another process .* terminated with signal SIGKILL",
        ),
    ],
    ids=["raised", "killed"],
)  # fmt: skip
def test_processes_that_fairseq_started(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(cfg: Any, main: Any) -> None:
        raise error

    monkeypatch.setattr(distributed_utils, "call_main", fail)
    join_processes()
    with pytest.raises(UserError, match=message):
        distributed_utils.call_main(config(), None)
