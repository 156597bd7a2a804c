from __future__ import annotations

import pytest
import torch

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.training.distributed import join_processes


def test_one_process_needs_nobody(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_processes("cpu") as processes:
        assert (processes.rank, processes.size, processes.is_main) == (0, 1, True)
        assert processes.total(torch.tensor(3)) == 3
        processes.wait()


def test_wrong_devices_are_named(monkeypatch):
    with pytest.raises(UserError, match="--device is 'tpu', but must be one of auto, cpu, cuda"):
        next(iter([join_processes("tpu").__enter__()]))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="--device is cuda, but there is no GPU"):
        join_processes("cuda").__enter__()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="--nproc-per-node can be 2 at most"):
        join_processes("auto").__enter__()
