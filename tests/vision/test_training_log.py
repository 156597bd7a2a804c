from __future__ import annotations

import sys

import pytest

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.training_log import LOG, Log, read_log


def test_lines_after_the_checkpoint_are_removed(tmp_path):
    log = Log(tmp_path, epochs=0, tensorboard=False)
    for epoch in (1, 2, 3):
        log.write({"epoch": epoch, "loss": epoch / 2})
    with (tmp_path / LOG).open("a") as stream:
        stream.write('{"epoch": 4, "lo')  # killed while it wrote
    with pytest.raises(UserError, match="train.jsonl: cannot be read"):
        read_log(tmp_path)
    Log(tmp_path, epochs=2, tensorboard=False).write({"epoch": 3, "loss": 0})
    assert [(line["epoch"], line["loss"]) for line in read_log(tmp_path)] == [
        (1, 0.5),
        (2, 1.0),
        (3, 0),
    ]


def test_curves_for_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    log = Log(tmp_path, epochs=0, tensorboard=True)
    log.write({"epoch": 1, "loss": 0.5})
    log.close()
    [events] = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes()


def test_lacking_tensorboard_is_told(tmp_path, monkeypatch):
    for module in ("torch.utils.tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match="--tensorboard needs the package tensorboard"):
        Log(tmp_path, epochs=0, tensorboard=True)
