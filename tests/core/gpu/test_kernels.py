"""When the Triton kernels can be used."""

import subprocess
import sys

import pytest
import torch

from fairseq_cgc.core import gpu as kernels

WITHOUT_TRITON = """
import os, sys
sys.modules["triton"] = None  # as if it were not installed
import torch
from fairseq_cgc.core import gpu as kernels
for interpret in ("0", "1"):
    os.environ["TRITON_INTERPRET"] = interpret
    print(kernels.supports(torch.zeros(1, 1, 1), 3))
"""


def test_is_imported_without_triton():
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRITON], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == [
        "x is on cpu, not on a CUDA device",
        "Triton is not installed",
    ]


@pytest.mark.parametrize(
    ("x", "size", "reason"),
    [
        (torch.zeros(2, 1, 4), 63, None),
        (torch.zeros(2, 1, 4, dtype=torch.float16), 1, None),
        (torch.zeros(2, 1, 4), 64, "the kernel has 64 taps, more than 63"),
        (
            torch.zeros(2, 1, 4, dtype=torch.float64),
            3,
            "x is torch.float64, not one of torch.float32, torch.bfloat16, torch.float16",
        ),
        (
            torch.zeros(2, 1, 4, dtype=torch.bfloat16),
            3,
            "Triton's interpreter does not multiply bfloat16",
        ),
        (torch.zeros(2, 0, 4), 3, "x is empty"),
    ],
)
def test_supports_in_the_interpreter(x, size, reason, monkeypatch):
    monkeypatch.setattr(kernels, "_is_installed", lambda: True)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert kernels.supports(x, size) == reason


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", kernels.DTYPES)
def test_supports_on_a_gpu(dtype):
    assert kernels.supports(torch.zeros(2, 1, 4, dtype=dtype, device="cuda"), 31) is None
