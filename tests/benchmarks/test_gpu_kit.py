"""The kit for a GPU machine runs its parts in turn, stops slow ones, and reports mistakes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import toy

KIT = toy.ROOT / "benchmarks" / "gpu"
# Stands in for Python and writes its arguments to a file; `decode` takes too long.
PYTHON = """#!/usr/bin/env bash
[ "$1" != - ] || exec python3 "$@"
echo "$*" >>"${0%/*}/calls"
case "$*" in
  *pytest*) echo "[gw0] [ 50%] PASSED tests/a.py::b[c - d] " ;;
  *"--sections decode"*) exec sleep 60 ;;
  *"op,step,decode"*) echo tables >"${0%/*}/out/README.md" ;;
esac
"""


def test_parts_run_in_turn_and_slow_ones_are_stopped(tmp_path: Path) -> None:
    (tmp_path / "kit" / "wheels").mkdir(parents=True)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    command = ["bash", str(KIT / "run.sh"), "kit", "out", "--quick"]
    variables = {**os.environ, "PYTHON": str(tmp_path / "python"), "SECONDS_IN_ALL": "10"}
    subprocess.run(command, env=variables, cwd=tmp_path, check=True, timeout=50)
    calls = (tmp_path / "calls").read_text().splitlines()
    sections = [words[words.index("--sections") + 1] for words in map(str.split, calls[-5:])]
    assert sections == ["op", "step", "decode", "images,conv", "op,step,decode,images,conv"]
    assert all(call.endswith("--quick") for call in calls[-5:])
    assert any("-m pytest -m gpu" in call and "test_core_on_a_gpu.py" in call for call in calls)
    results = json.loads((tmp_path / "out" / "tests.json").read_text())
    assert results == {"passed": 1, "tests": {"passed": ["tests/a.py::b[c - d]"]}}
    assert (tmp_path / "out" / "tables.tar.gz").exists()


MISTAKES = {
    "run.sh nowhere": "nowhere is no packed kit: run benchmarks/gpu/pack.sh",
    "pack.sh kit nowhere": "FAIRSEQ nowhere has no fairseq/modules/lightconv_layer",
    "pack.sh there": "KIT there exists, but is no packed kit",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_end_in_one_line(words: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    command = ["bash", *f"{KIT}/{words}".split()]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 1 and run.stderr.count("\n") == 1 and MISTAKES[words] in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
