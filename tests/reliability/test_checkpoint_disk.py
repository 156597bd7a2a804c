"""A disk that is full: one clear line, and the checkpoint before it stays whole."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import demo_training
import pytest
import torch
import warm
from conftest import Trained

from fairseq_cgc.core import UserError
from fairseq_cgc.support.checkpoints import safe_load, save_tensors

pytestmark = [
    pytest.mark.reliability,
    pytest.mark.xdist_group("reliability"),
    pytest.mark.skipif(sys.platform != "linux", reason="limits a disk as Linux does"),
]

SCHEDULE = [
    *("--dropout", "0.1", "--max-update", "6", "--save-interval-updates", "2"),
    *("--keep-interval-updates", "3"),
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own for three checkpoints and a half."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=46m", "tmpfs", str(disk)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode != 0:
        pytest.skip(f"may not mount a disk: {done.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def check_stopped(result: warm.Result, save_dir: Path, reason: str) -> None:
    """See that a training ended in one line, and that it can be continued."""
    [line] = result.errors
    assert ": cannot be written" in line and reason in line
    assert result.status == 1
    assert "Traceback" not in result.output and "Logging error" not in result.output
    assert not list(save_dir.glob(".*.partial"))
    for path in save_dir.glob("*.pt"):
        safe_load(path)


def test_full_disk(trained: Trained, small_disk: Path) -> None:
    save_dir = small_disk / "save"
    log = ["--log-file", small_disk / "train.log"]
    result = demo_training.train(trained.data, save_dir, *SCHEDULE, *log)
    check_stopped(result, save_dir, "No space left on device")
    assert (save_dir / "checkpoint_last.pt").exists()


@pytest.mark.slow
def test_limit_on_the_size_of_files(trained: Trained, tmp_path: Path) -> None:
    save_dir, log = tmp_path / "save", tmp_path / "log"
    command = ["train", trained.data, "--save-dir", save_dir, *demo_training.MODEL, *SCHEDULE]
    process = warm.start(log, *command)
    while not (save_dir / "checkpoint_last.pt").exists():
        assert process.is_alive()
        time.sleep(0.005)
    assert process.pid is not None
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2**20, 2**20))
    check_stopped(warm.end(process, log), save_dir, "File too large")
    weights = []
    for folder in (save_dir, tmp_path / "whole"):
        result = demo_training.train(trained.data, folder, *SCHEDULE)
        assert result.status == 0, result.output[-3000:]
        weights.append(safe_load(folder / "checkpoint_last.pt")["model"])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_average_on_a_full_disk(trained: Trained, small_disk: Path) -> None:
    output = small_disk / "average.pt"
    save_tensors(output, {"averaged": [], "what": "was there before"})
    before = output.read_bytes()
    (small_disk / "filling").write_bytes(bytes(44 * 2**20))
    arguments = [trained.last, trained.last, "--output", output]
    result = warm.run(small_disk.parent / "log", "fairseq-cgc average", *arguments)
    [line] = result.errors
    assert f"{output}: cannot be written (No space left on device)" in line
    assert result.status == 1 and "Traceback" not in result.output
    assert output.read_bytes() == before and not list(small_disk.glob(".*"))


def test_a_folder_that_cannot_be_written_in(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = demo_training.train(trained.data, tmp_path / "file", *SCHEDULE)
    [line] = result.errors
    assert f"--save-dir is {tmp_path / 'file'}, but cannot be written in (File exists)" in line


def test_no_half_of_a_file_stays(tmp_path: Path) -> None:
    class Breaks:
        def __reduce__(self) -> None:
            raise KeyboardInterrupt

    path = tmp_path / "x.pt"
    save_tensors(path, {"a": 1})
    with pytest.raises(KeyboardInterrupt):
        save_tensors(path, {"a": torch.ones(1000), "b": Breaks()})
    with pytest.raises(UserError, match=r"x\.pt: cannot be written \(File exists\)"):
        save_tensors(path / "x.pt", {})
    assert torch.load(path, weights_only=True) == {"a": 1} and list(tmp_path.iterdir()) == [path]
