"""What the tests of checkpoints share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import demo_training
import pytest
import torch

from fairseq_cgc.support.checkpoints import safe_load


@dataclass(frozen=True)
class Trained:
    """A model of two updates, with its data."""

    data: Path
    save_dir: Path

    @property
    def last(self) -> Path:
        return self.save_dir / "checkpoint_last.pt"

    def changed(self, path: Path, **entries: object) -> Path:
        """The last checkpoint with other entries."""
        torch.save({**safe_load(self.last), **entries}, path)
        return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    data = demo_training.prepare_demo(folder)
    result = demo_training.train(data, folder / "checkpoints", "--max-update", "2")
    assert result.status == 0, result.output[-3000:]
    return Trained(data, folder / "checkpoints")
