"""A short soak: translate.py killed and interrupted in mid-file, every line there once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import soak_translation
from soak_translation import Samples, draw_lines, growth
from surroundings import SENTENCES, Surroundings

pytestmark = pytest.mark.reliability


@pytest.mark.slow
def test_no_line_is_lost_or_doubled(tmp_path: Path) -> None:
    place = Surroundings(tmp_path / "place")
    text = tmp_path / "text"
    text.write_text("".join(german + "\n" for german, _ in SENTENCES), encoding="utf-8")
    command = [
        sys.executable, soak_translation.__file__, place.checkpoint, "--data", place.data,
        "--text", text, "--lines", "400", "--kills", "2", "--interval", "0.02",
        "--work", tmp_path / "work", "--report", tmp_path / "soak.json",
        "--plot", tmp_path / "soak.png", "--", "--beam", "1", "--buffer-size", "8", "--cpu",
    ]  # fmt: skip
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert result.stdout == "soak: tried 400, survived 400, lost 0\n", result.stderr[-3000:]
    report = json.loads((tmp_path / "soak.json").read_text())
    assert [signal for _, signal in report["kills"]] == ["SIGKILL", "SIGINT"]
    assert report["runs"][-1] == 2 and max(report["mebibytes"]) > 50
    assert (tmp_path / "soak.png").stat().st_size > 1000

    # A line too few shifts all that follow.
    output = tmp_path / "work" / "output"
    lines = output.read_text(encoding="utf-8").split("\n")
    output.write_text("\n".join([*lines[:100], *lines[101:]]), encoding="utf-8")
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert result.returncode == 1 and "lost 0" not in result.stdout


def test_lines_are_drawn_alike_each_time(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("a\nb\n\nc\n", encoding="utf-8")
    lines = draw_lines(text, 500, seed=1)
    assert lines == draw_lines(text, 500, seed=1) and set(lines) == {"", "a", "b", "c"}
    assert lines.count("") == 6


def test_growing_memory_is_noticed() -> None:
    lines = list(range(0, 101, 5))
    flat = Samples(lines=lines, mebibytes=[300.0] * 21)
    grown = Samples(lines=lines, mebibytes=[300.0 + line for line in lines])
    assert growth(flat, 100) == 1.0
    assert growth(grown, 100) == pytest.approx(400 / 325)
