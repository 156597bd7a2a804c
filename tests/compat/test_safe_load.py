"""The reader of checkpoints, which builds nothing but what fairseq saves."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils

import fairseq_cgc.models  # noqa: F401  (repairs fairseq's own reader)
from fairseq_cgc import compat
from fairseq_cgc.core import UserError


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("load", [compat.safe_load, checkpoint_utils.load_checkpoint_to_cpu])
def test_hostile_checkpoint_is_refused_and_not_run(load, tmp_path):
    path = tmp_path / "hostile.pt"
    torch.save({"model": {}, "args": Hostile(tmp_path / "executed")}, path)
    with pytest.raises(
        UserError, match=r"hostile.pt is refused: it asks to run or build \S+system"
    ):
        load(str(path))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("load", [compat.safe_load, checkpoint_utils.load_checkpoint_to_cpu])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_checkpoint_is_told(load, share, tmp_path):
    path = tmp_path / "cut.pt"
    torch.save({"model": {"w": torch.randn(1000)}, "args": argparse.Namespace(arch="a")}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"cut\.pt is damaged, or not a checkpoint"):
        load(str(path))


def test_missing_and_foreign_files_are_told(tmp_path):
    with pytest.raises(UserError, match=r"none\.pt: cannot be read \(No such file or directory"):
        compat.safe_load(tmp_path / "none.pt")
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory"):
        compat.safe_load(tmp_path)
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(UserError, match="holds no dictionary"):
        compat.safe_load(tmp_path / "tensor.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"\x09\0\0\0\0\0\0\0{}")
    with pytest.raises(UserError, match=r"cut\.safetensors is damaged, or needs another torch"):
        compat.safe_load(tmp_path / "cut.safetensors")


def test_what_fairseq_saves_can_be_loaded(tmp_path):
    state = {
        "args": argparse.Namespace(arch="transformer"),
        "sums": np.arange(4),
        "mean": np.float64(0.5),
        "rates": np.ones(2),
    }
    torch.save(state, tmp_path / "state.pt")
    loaded = compat.safe_load(tmp_path / "state.pt")
    assert loaded["args"] == state["args"] and loaded["mean"] == 0.5
    assert loaded["sums"].tolist() == [0, 1, 2, 3]
