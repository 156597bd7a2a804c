"""A few of the kills of kill_training.py, and what it would find in a worse world."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import warm

from fairseq_cgc.support.files import new_file

pytestmark = [pytest.mark.reliability, pytest.mark.xdist_group("reliability")]


@pytest.mark.slow
def test_killed_trainings_lose_nothing(tmp_path: Path) -> None:
    command = [sys.executable, warm.HERE / "kill_training.py", "--times", "3", "--seed", "2"]
    result = subprocess.run(
        [*map(str, command), "--work", str(tmp_path)],
        cwd=warm.REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.splitlines()[-1] == "checkpoints: tried 3, survived 3, lost 0"


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal; from fairseq_cgc.support.files import new_file\n"
        f"with new_file(pathlib.Path({str(tmp_path / 'x.pt')!r})) as partial:\n"
        "    partial.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=warm.PACKAGE.parent)
    (left,) = tmp_path.iterdir()
    with new_file(tmp_path / "y.pt") as partial:
        partial.touch()
    assert left.exists()  # it is of another file
    with new_file(tmp_path / "x.pt") as partial, new_file(tmp_path / "x.pt.pt") as other:
        partial.write_text("whole")
        other.touch()
        assert not left.exists() and partial.exists()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["x.pt", "x.pt.pt", "y.pt"]
