from __future__ import annotations

import pytest

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.training.checkpoints import RECORD, keep_record


def test_record_is_kept_and_compared(tmp_path):
    keep_record(tmp_path, {"--lr": 0.3})
    keep_record(tmp_path, {"--lr": 0.1, "--milestones": (1, 2)})  # nothing is trained yet
    (tmp_path / "last.pt").touch()
    keep_record(tmp_path, {"--lr": 0.1, "--milestones": (1, 2)})
    with pytest.raises(UserError, match=r"was trained with --lr 0.1, now it is 0.2; give another"):
        keep_record(tmp_path, {"--lr": 0.2, "--milestones": (1, 2)})
    with pytest.raises(UserError, match=r"with --milestones \[1, 2\], now it is null"):
        keep_record(tmp_path, {"--lr": 0.1})
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(UserError, match="settings.json: damaged"):
        keep_record(tmp_path, {})


def test_earlier_records_lack_what_came_later(tmp_path):
    keep_record(tmp_path, {"--lr": 0.1})
    (tmp_path / "last.pt").touch()
    keep_record(tmp_path, {"--lr": 0.1, "--shift-every": 1}, {"--shift-every": 1})
    with pytest.raises(UserError, match=r"trained with --shift-every 1, now it is 2"):
        keep_record(tmp_path, {"--lr": 0.1, "--shift-every": 2}, {"--shift-every": 1})


def test_checkpoints_without_a_record_are_not_touched(tmp_path):
    (tmp_path / "last.pt").write_bytes(b"")
    with pytest.raises(UserError, match="has checkpoints, but no settings.json"):
        keep_record(tmp_path, {})
    assert not (tmp_path / RECORD).exists()
