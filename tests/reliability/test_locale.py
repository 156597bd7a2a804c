"""Commands in a locale that is not UTF-8, each in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import demo_training
import pytest
import torch
import toy
import warm
from fairseq.data import Dictionary
from our_commands import command_line

from fairseq_cgc.models.config import CONFIG_DIR
from fairseq_cgc.support.checkpoints import safe_load

pytestmark = pytest.mark.slow

NO_UTF8 = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LETTERS = "ä@@"  # of the demo's dictionary


C = {**NO_UTF8, "LC_ALL": "C"}


@pytest.fixture(scope="module")
def latin_1(tmp_path_factory):
    """Environment variables with which Python would read and write ISO-8859-1."""
    if shutil.which("localedef") is None or not Path("/usr/share/i18n").is_dir():
        pytest.skip("needs localedef and the sources of locales")
    folder, name = tmp_path_factory.mktemp("locales"), "de_DE.ISO-8859-1"
    subprocess.run(["localedef", "-i", "de_DE", "-f", "ISO-8859-1", folder / name], check=True)
    return {**NO_UTF8, "LC_ALL": name, "LOCPATH": str(folder)}


def run(command: list[str | Path], surroundings: dict[str, str], text: str = "") -> str:
    """Standard output, as UTF-8."""
    result = subprocess.run(
        list(map(str, command)),
        cwd=toy.ROOT,
        env={**os.environ, "PYTHONPATH": str(toy.ROOT), **surroundings},
        input=text.encode(),
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.decode()


@pytest.mark.parametrize("name", ["C", "Latin-1", "streams"])
def test_interactive_reads_and_writes_utf8(name, latin_1, trained):
    streams = {"PYTHONIOENCODING": "latin-1"}
    surroundings = {"C": C, "Latin-1": latin_1, "streams": streams}[name]
    command = toy.fairseq_command("interactive", trained.data, "--path", trained.last, "--cpu")
    output = run(command, surroundings, f"{LETTERS} w\n")
    assert f"S-0\t{LETTERS} w\n" in output


def test_generate_writes_utf8(trained):
    command = toy.fairseq_command("generate", trained.data, "--path", trained.last, "--cpu")
    output = run([*command, "--beam", "1"], C)
    sources = [line for line in output.splitlines() if line.startswith("S-")]
    assert len(sources) == 20 and any(LETTERS in line for line in sources)


def test_our_own_commands_read_and_write_utf8():
    command = command_line("tokenize", "--lang", "de")
    assert run(command, C, "Mädchen, „so“!\n") == "Mädchen , „ so “ !\n"


@pytest.mark.parametrize("hydra", [False, True])
def test_embeddings_are_read_as_utf8(hydra, latin_1, trained, tmp_path):
    embeddings, save_dir = tmp_path / "embeddings.vec", tmp_path / "save"
    embeddings.write_text(f"1 16\n{LETTERS}{' 0.25' * 16}\n", encoding="utf-8")
    if hydra:
        command = toy.fairseq_command(
            "hydra_train",
            *("--config-dir", CONFIG_DIR, "model=lightconv_cgc_tiny", "task=translation"),
            *(f"task.data={trained.data}", f"common.user_dir={warm.PACKAGE}", "common.cpu=true"),
            *("optimizer=adam", "lr_scheduler=fixed", "optimization.lr=[1e-9]"),
            *("dataset.max_tokens=800", "optimization.max_update=1"),
            *(f"++model.encoder_embed_path={embeddings}", "++model.encoder_embed_dim=16"),
            *(f"checkpoint.save_dir={save_dir}", f"hydra.run.dir={tmp_path}"),
        )
    else:
        command = toy.fairseq_command(
            "train",
            *(trained.data, *demo_training.MODEL, "--encoder-embed-path", embeddings),
            *("--encoder-embed-dim", "16", "--save-dir", save_dir),
            *("--max-update", "1", "--lr", "1e-9"),
        )
    run(command, latin_1 if hydra else C)
    weight = safe_load(save_dir / "checkpoint_last.pt")["model"]["encoder.embed_tokens.weight"]
    word = Dictionary.load(str(trained.data / "dict.de.txt")).index(LETTERS)
    torch.testing.assert_close(weight[word], torch.full((16,), 0.25), atol=1e-6, rtol=0)
