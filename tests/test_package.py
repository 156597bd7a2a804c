"""The wheel and the source distribution, built from a copy of the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from toy import ROOT

pytestmark = pytest.mark.slow

FILES = ["setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md"]


def run(*command: str, folder: Path) -> None:
    result = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def build_wheel(source: Path, out: Path) -> set[str]:
    """File names in the wheel made from ``source``."""
    options = ["--no-deps", "--no-build-isolation", "--quiet", "-w", str(out)]
    run("-m", "pip", "wheel", str(source), *options, folder=source)
    [wheel] = out.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_wheel_and_sdist_hold_the_whole_package(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(
        ROOT / "fairseq_cgc", source / "fairseq_cgc", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in [*FILES, "CITATION.cff"]:
        shutil.copy(ROOT / name, source)
    package = {
        str(path.relative_to(source))
        for path in (source / "fairseq_cgc").rglob("*")
        if path.suffix in (".py", ".yaml", ".html", ".css", ".js", ".tsv")
    }
    assert "fairseq_cgc/config/model/lightconv_cgc_iwslt_de_en.yaml" in package
    assert package <= build_wheel(source, tmp_path / "wheel")

    run("setup.py", "--quiet", "sdist", "--dist-dir", str(tmp_path / "sdist"), folder=source)
    [archive] = (tmp_path / "sdist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    [unpacked] = (tmp_path / "unpacked").iterdir()
    assert (unpacked / "LICENSE").is_file()
    assert package <= build_wheel(unpacked, tmp_path / "wheel-of-sdist")
