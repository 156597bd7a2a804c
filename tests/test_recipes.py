"""The recipes in scripts/: fairseq's own commands for IWSLT'14."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import iwslt_archive
import pytest
from our_commands import ENVIRONMENT, call
from tinyrun import TinyRun
from toy import ROOT

from fairseq_cgc.mt.fairseq_commands import PACKAGE_DIR, merge_options
from fairseq_cgc.mt.reproduce.protocol import load_protocol

OF_A_RUN = {"--seed", "--save-dir", "--log-file", "--log-format", "--user-dir", "--arch"}


@pytest.fixture
def programs(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``fairseq-cgc`` is this checkout's."""
    folder = tmp_path / "programs"
    folder.mkdir()
    program = folder / "fairseq-cgc"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m fairseq_cgc "$@"\n')
    program.chmod(0o755)
    path = [str(folder), str(Path(sys.executable).parent), ENVIRONMENT["PATH"]]
    return {**ENVIRONMENT, "PATH": os.pathsep.join(path)}


def recipe(name: str, *arguments: object, **options: object) -> subprocess.CompletedProcess:
    command = ["bash", ROOT / "scripts" / f"{name}_iwslt14.sh", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)


def test_training_is_by_the_protocol(programs: dict[str, str], tmp_path: Path) -> None:
    train = tmp_path / "programs" / "fairseq-train"
    train.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    train.chmod(0o755)
    done = recipe("train", "--fp16", env=programs | {"SEED": "7", "DATA": "data"})
    assert done.returncode == 0, done.stderr
    data, *words = done.stdout.splitlines()
    given, protocol = merge_options(words), load_protocol("iwslt14_de_en")
    assert (data, given.pop("--fp16"), given["--seed"]) == ("data", [], ["7"])
    assert given["--user-dir"] == [str(PACKAGE_DIR)]
    assert given["--arch"] == [protocol.architecture]
    wanted = merge_options(protocol.train_options)
    assert {key: value for key, value in given.items() if key not in OF_A_RUN} == wanted


@pytest.mark.slow
def test_the_preparation_recipe_runs(programs: dict[str, str], tmp_path: Path) -> None:
    archive = iwslt_archive.write_archive(tmp_path / "x.tgz", iwslt_archive.campaign_files())
    out = tmp_path / "out"
    done = recipe("prepare", "--from", archive, "--workers", 1, env=programs | {"OUT": str(out)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"fairseq-train {out / 'bin'} | ")


@pytest.mark.slow
def test_evaluation_is_that_of_our_command(
    programs: dict[str, str],
    run: TinyRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    save_dir = tmp_path / "save"
    shutil.copytree(run.save_dir, save_dir)
    places = {"DATA": str(run.data_dir), "SAVE_DIR": str(save_dir), "LAST_EPOCHS": "3"}
    done = recipe("evaluate", "--cpu", env=programs | places)
    assert done.returncode == 0, done.stderr
    call("evaluate", save_dir, "--data", run.data_dir, "--last-epochs", 3, "--cpu")
    pattern = r"BLEU4 = [\d.]+, [\d./]+"
    assert re.findall(pattern, done.stdout)[-1] in capsys.readouterr().out
