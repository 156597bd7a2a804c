"""fairseq-cgc export and translate, from a checkpoint to translations without fairseq."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from our_commands import ENVIRONMENT, call
from tinyrun import TinyRun, make_pairs

from fairseq_cgc.inference import SearchOptions, Translator
from fairseq_cgc.support.errors import UserError

pytestmark = pytest.mark.slow
LINES = [source for source, _ in make_pairs(3, seed=5)]
TEXT = f"{LINES[0]}\n\n{LINES[1]}\n{LINES[2]}\n"


def translate(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    """What ``fairseq-cgc translate`` makes of TEXT."""
    output = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
        patch.setattr(sys, "stdout", io.TextIOWrapper(output))
        call("translate", *arguments, "--cpu")
        return output.getvalue().decode()


def test_an_exported_folder_translates_as_its_checkpoint(
    run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    checkpoint, out = tmp_path / "checkpoint_best.pt", tmp_path / "exported"
    shutil.copy(run.save_dir / checkpoint.name, checkpoint)
    search = ["--beam", 2, "--split", "valid", "--cpu"]
    call("evaluate", checkpoint, "--data", run.data_dir, "--no-average", *search)
    stale = tmp_path / "checkpoint_best.test.beam6-lenpen1"
    shutil.copytree(tmp_path / "checkpoint_best.valid.beam2-lenpen1", stale)
    record = json.loads((stale / "scores.json").read_text())
    (stale / "scores.json").write_text(json.dumps({**record, "updates": [7]}))
    capsys.readouterr()
    words = ["--licence", "mit", "--citation", "Me, 2026"]
    call("export", checkpoint, "--data", run.data_dir, "--out", out, *words)
    assert capsys.readouterr().out == f"{out}: float32, scores of valid.beam2-lenpen1\n"
    card = (out / "README.md").read_text(encoding="utf-8")
    for part in ('license: "mit"', "Me, 2026", '"valid.beam2-lenpen1": {', '"sacrebleu"'):
        assert part in card
    with pytest.raises(UserError, match="exported: exists already"):
        call("export", checkpoint, "--data", run.data_dir, "--out", out)

    moved = out.rename(tmp_path / "moved")
    want = translate(monkeypatch, checkpoint, "--data", run.data_dir)
    assert want.count("\n") == 4 and want.split("\n")[1] == ""
    assert translate(monkeypatch, moved) == want
    with pytest.raises(UserError, match="is a checkpoint: give the data"):
        translate(monkeypatch, checkpoint)

    scored = translate(monkeypatch, moved, "--nbest", 2, "--beam", 3, "--min-len", 2)
    rows = [line.split("\t") for line in scored.splitlines()]
    assert [row[0] for row in rows] == ["1", "1", "3", "3", "4", "4"]
    options = SearchOptions(beam=3, nbest=2, min_len=2, cpu=True)
    found = [t for all_ in Translator(moved, options=options).nbest(LINES) for t in all_]
    assert [row[2] for row in rows] == [t.text for t in found]
    assert [float(row[1]) for row in rows] == pytest.approx([t.score for t in found], abs=1e-4)
    (tmp_path / "text").write_text(TEXT)
    files = ["--input", tmp_path / "text", "--output", tmp_path / "output"]
    call("translate", moved, "--nbest", 2, "--beam", 3, "--min-len", 2, "--cpu", *files)
    assert (tmp_path / "output").read_text() == scored


def test_neither_command_imports_fairseq(run: TinyRun, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom fairseq_cgc.__main__ import main\n"
        "checkpoint, data, out = sys.argv[1:]\n"
        "main(['translate', checkpoint, '--data', data, '--cpu', '--beam', '1'])\n"
        "main(['export', checkpoint, '--data', data, '--out', out, '--precision', 'int8'])\n"
        "sys.stdin.seek(0)\n"
        "main(['translate', out, '--cpu', '--beam', '1'])\n"
        "sys.exit([m for m in sys.modules if m.partition('.')[0] in ('fairseq', 'hydra')] or None)"
    )
    (tmp_path / "text").write_text(TEXT)
    words = [run.save_dir / "checkpoint_best.pt", run.data_dir, tmp_path / "exported"]
    with (tmp_path / "text").open() as text:
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, words)],
            env=ENVIRONMENT, stdin=text, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 9
