"""``fairseq-cgc COMMAND`` as a user runs it, in a process of its own or in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairseq_cgc.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


def command_line(name: str, *arguments: object) -> list[str]:
    """The argument vector of ``fairseq-cgc NAME``."""
    return [sys.executable, "-m", "fairseq_cgc", name, *map(str, arguments)]


def run_command(name: str, *arguments: object, **options: object) -> subprocess.CompletedProcess:
    """Run ``fairseq-cgc NAME`` without waiting for its success; output as bytes, or as text."""
    keywords = {"env": ENVIRONMENT, "capture_output": True, "check": False, **options}
    return subprocess.run(command_line(name, *arguments), **keywords)


def call(name: str, *arguments: object) -> None:
    """Run ``fairseq-cgc NAME`` in this process; its errors are raised."""
    words = [name, *map(str, arguments)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fairseq-cgc", *words])
        main()
