from __future__ import annotations

import re

import pytest

from fairseq_cgc.core import UserError
from fairseq_cgc.video.data.dataset import read_classes, read_list


def test_lines_are_read(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("v1/123 45 7\n\nplaying chess/a b 1 0")  # no line end, as TSM's tools write
    first, second = read_list(path, 8)
    assert (first.path, first.frames, first.label) == ("v1/123", 45, 7)
    assert (second.path, second.frames, second.label) == ("playing chess/a b", 1, 0)
    assert second.where == f"{path}, line 3"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("v2 8", ", line 2 is 'v2 8', but must be: path num_frames label"),
        ("v2", ", line 2 is 'v2', but must be: path num_frames label"),
        ("v2 8 x", ", line 2 is 'v2 8 x', but must be: path num_frames label"),
        ("v2 8 -1", ", line 2 is 'v2 8 -1', but must be"),
        ("v2 8.0 1", ", line 2 is 'v2 8.0 1', but must be"),
        ("v2 8 9999999999", ", line 2 is 'v2 8 9999999999', but must be"),
        ("v2 0 1", ", line 2: v2 has no frames"),
        ("v2 8 3", ", line 2: the label is 3, but there are 3 classes, counted from 0"),
    ],
)
def test_wrong_lines_are_named(line, message, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(f"v1 8 2\n{line}\nv3 8 0\n")
    with pytest.raises(UserError, match=re.escape(f"{path}{message}")):
        read_list(path, 3)


def test_unreadable_lists_are_named(tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "bad.txt").write_bytes(b"v1 8 0\n\xff 8 0\n")
    for name, message in (
        ("empty.txt", "lists no videos"),
        ("bad.txt", "bad.txt: not UTF-8 at byte 7"),
        ("gone.txt", r"gone.txt: cannot be read \(No such file"),
    ):
        with pytest.raises(UserError, match=message):
            read_list(tmp_path / name)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_byte_order_marks_and_other_ends_of_lines(mark, end, tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(f"{mark}v1 8 0{end}v2\x85\u2028x 3 1{end}".encode())
    assert [video.path for video in read_list(path)] == ["v1", "v2\x85\u2028x"]
    path.write_bytes(f"{mark}Fall{end}Rise\x0b\u2028 up{end}".encode())
    assert read_classes(path) == ("Fall", "Rise\x0b\u2028 up")


def test_names_of_classes(tmp_path):
    path = tmp_path / "category.txt"
    path.write_text("Closing something \nOpening something\n")
    assert read_classes(path) == ("Closing something", "Opening something")
    path.write_text("a\n\nb\n")
    with pytest.raises(UserError, match="category.txt, line 2 is empty, but must name a class"):
        read_classes(path)
    path.write_text("")
    with pytest.raises(UserError, match="category.txt names no classes"):
        read_classes(path)
