"""The documentation: it builds, its pictures are current, its commands and examples run."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import os
import re
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tinyrun import TinyRun
from toy import ROOT

from fairseq_cgc.__main__ import main
from fairseq_cgc.commands import NAMES
from fairseq_cgc.inference import Translator
from fairseq_cgc.inference.exported import export

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")]
#: What the tutorial's commands are given instead, so that the test takes a minute.
SMALLER = {
    "demo-corpus corpus": "demo-corpus corpus --train 1000 --valid 50 --test 50",
    "--bpe-size 1000": "--bpe-size 200",
    "--max-update 600": "--max-update 30",
    "--keep-last-epochs 5": "--keep-last-epochs 5 --num-workers 0",
}


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.M | re.S)


@pytest.mark.parametrize("name", ["gate", "rooms"])
def test_pictures_are_current(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    script = importlib.import_module(f"draw_{name}")
    picture = script.draw() if name == "gate" else script.draw(script.imports())
    found = (DOCS / "images" / f"{name}.svg").read_text(encoding="utf-8")
    assert found == picture, f"run python docs/draw_{name}.py"


def test_a_cycle_of_rooms_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    rooms = importlib.import_module("draw_rooms")
    used = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert rooms.levels(used) == {"c": 0, "b": 1, "a": 2}
    assert rooms.direct(used) == {"a": {"b"}, "b": {"c"}, "c": set()}
    with pytest.raises(ValueError, match="cycle"):
        rooms.levels(used | {"c": {"a"}})


def test_files_named_in_the_pages_exist() -> None:
    missing = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"\b(?:fairseq_cgc|tests|benchmarks|docs)/[\w./-]*\w", text):
            if not (ROOT / name).exists():
                missing.append(f"{page.name}: {name}")
        for name in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            if not (page.parent / name).exists():
                missing.append(f"{page.name}: {name}")
    assert missing == []


def test_where_to_change_what_is_current() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (an? .*|the .*) \| (.*) \| (.*) \|$", text, flags=re.M)
    assert len(rows) >= 10
    for change, edited, how in rows:
        files = [ROOT / "fairseq_cgc" / name for name in re.findall(r"`(\w[\w/]+\.py)`", edited)]
        files = [path for path in files if path.name != "COMMAND.py"]
        assert len(files) <= 2 and all(path.exists() for path in files), change
        source = "".join(path.read_text(encoding="utf-8") for path in files)
        for name in re.findall(r"`(_?[A-Z][A-Z_]+)`", how):
            assert f"\n{name}" in source, f"{change}: {name}"


@functools.cache
def help_of(*words: str) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return text.getvalue()


def test_commands_named_in_the_pages_exist_and_have_their_options() -> None:
    code = "".join(blocks("tutorial.md", "bash"))
    for page in PAGES:  # indented code, and code within sentences
        text = page.read_text(encoding="utf-8")
        code += "".join(
            f"{found}\n" for found in re.findall(r"^    .*\n|`[^`]*`", text, flags=re.M)
        )
    code = code.replace("\\\n", " ")
    named = re.findall(r"(?:fairseq-cgc|-m fairseq_cgc) ([a-z][a-z0-9-]+)([^\n|`)]*)", code)
    assert "evaluate" in dict(named)
    for name, words in named:
        assert name in NAMES
        part = words.split()[:1] if name == "analyse" else []
        options = set(re.findall(r"--[a-z][a-z-]+", words))
        known = set(re.findall(r"--[a-z][a-z-]+", help_of(name, *part)))
        assert options <= known, f"fairseq-cgc {name}: {options - known}"


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path) -> None:
    commands = "\n".join(blocks("tutorial.md", "bash"))
    for text, smaller in SMALLER.items():
        assert text in commands
        commands = commands.replace(text, smaller)
    program = tmp_path / "bin" / "fairseq-cgc"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fairseq_cgc "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join(
            [str(program.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
        ),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "BLEU4" in done.stdout
    assert (tmp_path / "gates.png").stat().st_size and (tmp_path / "curve.png").stat().st_size


@pytest.mark.slow
def test_the_server_answers(run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    translator = Translator(run.save_dir / "checkpoint_best.pt", run.data_dir)
    folder = tmp_path / "exported"
    export(translator.model, translator.languages, run.data_dir, translator.preparation, folder)
    [program] = blocks("inference.md", "python")
    program, last = program.strip().rsplit("\n", 1)
    assert last == "server.serve_forever()"
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(program.replace("8080", "0"), names)
    with names["server"] as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        lines = "Der Hund sieht den Ball.\n\nDer Mann malt den Baum.\n"
        address = f"http://127.0.0.1:{server.server_port}"
        with urllib.request.urlopen(address, data=lines.encode()) as answer:
            found = answer.read().decode()
        server.shutdown()
        thread.join()
    assert found == "".join(f"{line}\n" for line in translator.translate(lines.splitlines()))


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("material") is None:
        pytest.skip("needs mkdocs: pip install -e '.[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for page in DOCS.glob("*.md"):
        text = (tmp_path / "site" / f"{page.stem}.html").read_text(encoding="utf-8")
        assert "https://fonts" not in text
    api = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    assert "CGLightConv" in api and "Beam size." in api and ":class:" not in api
