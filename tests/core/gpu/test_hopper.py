"""The interpreter accepts code that the compiler does not."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("triton") is None:  # not imported: that would choose its mode
    pytest.skip("Triton is not installed", allow_module_level=True)


@pytest.mark.slow
def test_every_kernel_compiles_for_a_hopper_gpu(tmp_path):
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, Path(__file__).with_name("hopper.py")],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [
        *("_convolve", "_multiply_taps"),
        *("encode", "encode_backward", "modulate", "modulate_backward"),
    ]
