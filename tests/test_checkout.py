"""A checkout on another system."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from toy import ROOT


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git checkout")
def test_a_checkout_on_windows_has_the_line_ends_of_the_repository(tmp_path: Path) -> None:
    git = ["git", "-c", "core.autocrlf=true", "-c", "core.eol=crlf"]
    subprocess.run([*git, "clone", "--quiet", ROOT, tmp_path / "clone"], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "--eol"], cwd=tmp_path / "clone", capture_output=True, text=True
    )
    found = dict(reversed(line.split("\t")) for line in listed.stdout.splitlines())
    assert "w/lf" in found["scripts/demo.sh"] and "w/-text" in found["docs/soak.png"]
    assert not [name for name, ends in found.items() if "crlf" in ends or "mixed" in ends]
