import os
import pickle
from pathlib import Path

import pytest
import torch

from fairseq_cgc.core import UserError
from fairseq_cgc.support.checkpoints import read_safely
from fairseq_cgc.support.files import distinct_names, new_file, write_json


def test_new_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(KeyError), new_file(path) as partial:
        partial.write_text("half")
        raise KeyError
    assert path.read_text() == "old" and [*tmp_path.iterdir()] == [path]
    write_json(path, {"a": "\u00e4"})
    assert path.read_text(encoding="utf-8") == '{\n  "a": "\u00e4"\n}\n'
    write_json(tmp_path / "new" / "x", {})
    with pytest.raises(UserError, match="cannot be written"):
        write_json(path / "x", {})


def test_reading_runs_no_code(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"a": torch.ones(2)}, path)
    assert read_safely(path)["a"].tolist() == [1.0, 1.0]
    path.write_bytes(pickle.dumps(pytest.fail))
    with pytest.raises(UserError, match=r"x\.pt is (refused: it asks to run or build|damaged)"):
        read_safely(path)
    path.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"x\.pt is damaged, or not a checkpoint at all"):
        read_safely(path)
    with pytest.raises(UserError, match=r"absent\.pt: cannot be read"):
        read_safely(tmp_path / "absent.pt")


def test_a_device_or_a_folder_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(UserError, match="no regular file"), new_file(path):
            pass
    assert pipe.is_fifo()


def test_paths_are_named_by_what_tells_them_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert distinct_names([Path("a/x"), Path("b/y")]) == ["x", "y"]
    assert distinct_names([Path("a/bin"), Path("./b/bin"), tmp_path / "c"]) == [
        *("a/bin", "b/bin"), f"{tmp_path.name}/c",
    ]  # fmt: skip
    assert distinct_names([Path("/x"), Path("/y/x")]) == ["/x", "y/x"]
    assert distinct_names([Path("x"), Path("./x")]) == ["x", "x"]  # the same
    assert distinct_names([Path()]) == [tmp_path.name]
