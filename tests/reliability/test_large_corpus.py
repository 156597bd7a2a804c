"""A short run of large_corpus.py: every pair is in the data, or was dropped and counted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import large_corpus
import pytest

pytestmark = [pytest.mark.reliability, pytest.mark.slow]


def test_every_pair_is_accounted_for(tmp_path: Path) -> None:
    command = [
        sys.executable, large_corpus.__file__, "--pairs", "3000", "--types", "3000",
        "--bpe-size", "300", "--held-out", "20", "--workers", "2", "--work", tmp_path,
        "--report", tmp_path / "report.json",
    ]  # fmt: skip
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    last = result.stdout.splitlines()[-1:]
    assert last == ["large corpus: tried 3000, survived 3000, lost 0"], result.stderr[-3000:]
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert list(report["seconds"]) == list(report["mebibytes"]) == ["orig", "text", "bpe", "bin"]
    # Nothing is dropped in silence: the corpus has pairs of each kind.
    data = tmp_path / "data"
    orig, text = (large_corpus.read_counts(data / step) for step in ("orig", "text"))
    assert (orig["empty"], orig["held_out"], text["dropped"]) == (3, 40, 3)

    for ending in ("bin", "idx"):
        for lang in large_corpus.LANGS:
            shutil.copy(data / f"bin/valid.de-en.{lang}.{ending}", data / "copy")
            (data / "copy").replace(data / f"bin/train.de-en.{lang}.{ending}")
    assert large_corpus.accounted_for(data) < 3000
