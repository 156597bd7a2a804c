"""fairseq's own commands with this package as their --user-dir."""

import sys

import pytest

from fairseq_cgc.mt.fairseq_commands import PACKAGE_DIR, fairseq_command, run_fairseq
from fairseq_cgc.support.errors import UserError


def test_command_is_of_this_python_and_package():
    command = fairseq_command("train", ["DATA", "--lr", "1"])
    assert command == [
        *(sys.executable, "-P", "-m", "fairseq_cli.train", "DATA", "--lr", "1"),
        *("--user-dir", str(PACKAGE_DIR)),
    ]
    assert (PACKAGE_DIR / "compat" / "__init__.py").is_file()


def test_failing_command_is_told_with_its_last_line(tmp_path):
    with pytest.raises(UserError, match=r"fairseq-train failed: .*error: .*\(see .*log\)"):
        run_fairseq("train", ["DATA", "--arch", "lightconv", "--no-such"], log=tmp_path / "log")


def test_files_of_the_working_folder_are_not_taken_for_pythons(tmp_path, monkeypatch):
    (tmp_path / "tokenize.py").write_text("raise SystemExit('not this file')")
    monkeypatch.chdir(tmp_path)
    run_fairseq("preprocess", ["--help"], log=tmp_path / "log")
