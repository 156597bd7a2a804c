"""What importing the package does, and does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "fairseq_cgc"
FREE_OF_FAIRSEQ = ["core", "support", "inference", "vision", "video", "analysis.cam"]


@pytest.mark.parametrize("module", ["fairseq_cgc", *(f"fairseq_cgc.{m}" for m in FREE_OF_FAIRSEQ)])
def test_importing_loads_no_fairseq(module):
    code = (
        f"import sys, {module}\n"
        "loaded = [m for m in sys.modules if m.split('.')[0] in ('fairseq', 'hydra')]\n"
        "print(loaded)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stdout + result.stderr


def test_translating_imports_only_what_it_needs():
    slow = ("triton", "sacrebleu", "matplotlib", "torch.utils.flop_counter", "sacremoses")
    code = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"
        "import fairseq_cgc.inference, fairseq_cgc.commands.translate\n"
        f"print([name for name in {slow} if name in set(sys.modules) - before])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stdout + result.stderr


@pytest.mark.parametrize("first", ["fairseq_cgc.core", "fairseq_cgc.inference", "fairseq.utils"])
def test_user_dir_registers_whatever_was_imported_before(first):
    code = (
        f"import argparse, {first}\n"
        "import fairseq_cgc.core\n"
        "from fairseq import utils\n"
        "from fairseq.models import ARCH_MODEL_REGISTRY\n"
        "assert 'lightconv_cgc_tiny' not in ARCH_MODEL_REGISTRY\n"
        f"utils.import_user_module(argparse.Namespace(user_dir={str(PACKAGE)!r}))\n"
        "from fairseq_cgc.compat import _applied\n"
        "print('lightconv_cgc_tiny' in ARCH_MODEL_REGISTRY, len(_applied) > 10)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "True True\n", result.stderr
