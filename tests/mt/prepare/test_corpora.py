import gzip
import hashlib
import http.server
import io
import threading
from pathlib import Path

import pytest

from fairseq_cgc.inference.text.lines import (
    MAX_LINE_BYTES,
    decode_lines,
    read_lines,
    text_lines,
    write_lines,
)
from fairseq_cgc.mt.prepare.corpora import (
    MAX_TOKEN_CHARACTERS,
    check_pairs,
    download,
    keep_pair,
    read_pairs,
)
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import new_file, new_folder


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_only_newline_ends_a_line(tmp_path):
    line = "a\u2028b\u2029c\x0bd\x0ce\x85f\x1cg\x1eh\ri"
    path = write(tmp_path / "text", f"{line}\nsecond\n")
    assert list(read_lines(path)) == [line, "second"]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
        ("Größe\n".encode(), ["Größe"]),
    ],
)
def test_line_ends_and_byte_order_mark(tmp_path, content, lines):
    assert list(read_lines(write(tmp_path / "text", content))) == lines
    assert list(read_lines(write(tmp_path / "text.gz", gzip.compress(content, mtime=0)))) == lines


def test_bad_utf8_names_file_line_and_byte(tmp_path):
    path = write(tmp_path / "text.de", b"gut\nauch gut\nGr\xfc\xdfe\n")
    with pytest.raises(UserError, match=r"text\.de, line 3: not UTF-8 \(byte 0xfc, number 3 "):
        list(read_lines(path))


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"a line\n" * 1000, mtime=0)[:-20],
        b"not gzip at all\n",
        b"\x1f\x8b\x08" + b"\0" * 30,
    ],
)
def test_damaged_gzip(tmp_path, content):
    path = write(tmp_path / "text.gz", content)
    with pytest.raises(UserError, match=r"text\.gz: truncated or damaged gzip"):
        list(read_lines(path))


def test_decoding_a_stream():
    stream = io.BytesIO("\ufeffa\u2028b\r\n\nc".encode())
    assert list(decode_lines(stream, "input")) == ["\ufeffa\u2028b\r", "", "c"]
    stream.seek(0)
    assert list(text_lines(decode_lines(stream, "input"))) == ["a\u2028b", "", "c"]
    lines = decode_lines(io.BytesIO(b"a\nb\xe4\n"), "input")
    assert next(lines) == "a"
    with pytest.raises(UserError, match=r"^input, line 2: not UTF-8 \(byte 0xe4, number 2 of"):
        next(lines)


def test_a_line_that_fills_the_memory(tmp_path):
    bomb = write(tmp_path / "text.gz", gzip.compress(b"a\n" + bytes(MAX_LINE_BYTES + 1), mtime=0))
    assert bomb.stat().st_size < 20_000
    with pytest.raises(UserError, match=r"text\.gz, line 2: longer than 16 MiB"):
        list(read_lines(bomb))
    with pytest.raises(UserError, match="/dev/zero, line 1: longer than 16 MiB"):
        list(read_lines(Path("/dev/zero")))
    longest = write(tmp_path / "text", b"a" * (MAX_LINE_BYTES - 1) + b"\nb")
    assert [len(line) for line in read_lines(longest)] == [MAX_LINE_BYTES - 1, 1]


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="absent: cannot be read"):
        list(read_lines(tmp_path / "absent"))
    with pytest.raises(UserError, match="cannot be read"):
        list(read_lines(tmp_path))


@pytest.mark.parametrize(("sources", "targets"), [(3, 5), (5, 3), (0, 1)])
def test_unequal_lengths_tell_both_counts(tmp_path, sources, targets):
    source = write(tmp_path / "x.de", "a\n" * sources)
    target = write(tmp_path / "x.en", "b\n" * targets)
    with pytest.raises(UserError, match=rf"x\.de has {sources} lines, but .*x\.en has {targets};"):
        list(read_pairs(source, target))


def test_pairs_are_read_line_by_line(tmp_path):
    source, target = write(tmp_path / "x.de", "a\n\n"), write(tmp_path / "x.en", "b\nc\n")
    assert list(read_pairs(source, target)) == [("a", "b"), ("", "c")]


def test_check_pairs_empty_lines(tmp_path):
    source, target = write(tmp_path / "x.de", "a\nb\n"), write(tmp_path / "x.en", "a\n \t\n")
    assert check_pairs(source, target, allow_empty=True) == 2
    with pytest.raises(UserError, match=r"x\.en, line 2: empty line"):
        check_pairs(source, target, allow_empty=False)


def test_check_pairs_refuses_empty_files(tmp_path):
    source, target = write(tmp_path / "x.de", ""), write(tmp_path / "x.en", "")
    with pytest.raises(UserError, match=r"x\.de: no lines"):
        check_pairs(source, target, allow_empty=True)


@pytest.mark.parametrize(
    ("source", "target", "kept"),
    [
        ("a b c", "a", True),
        ("a b c d", "a", False),
        ("a", "a b c d", False),
        ("", "a", False),
        ("a", " ", False),
        ("a" * MAX_TOKEN_CHARACTERS, "a", True),
        ("a", "b" * (MAX_TOKEN_CHARACTERS + 1), False),
    ],
)
def test_keep_pair_by_number_of_tokens(source, target, kept):
    assert keep_pair(source, target, max_tokens=3) is kept


@pytest.mark.parametrize(("long", "kept"), [("a b c", True), ("a b c d", False)])
def test_keep_pair_by_ratio(long, kept):
    assert keep_pair(long, "x y", max_tokens=9, max_ratio=1.5) is kept
    assert keep_pair("x y", long, max_tokens=9, max_ratio=1.5) is kept
    assert not keep_pair("", "x", max_tokens=9, max_ratio=1.5)


def test_failed_writing_keeps_the_old_file_and_nothing_else(tmp_path):
    path = write(tmp_path / "text", "old\n")

    def lines():
        yield "new"
        raise UserError("bad input")

    with pytest.raises(UserError, match="bad input"):
        write_lines(path, lines())
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_write_lines(tmp_path):
    path = tmp_path / "folder" / "text"
    assert write_lines(path, ["ä\u2028b", "", "c"]) == 3
    assert path.read_bytes() == "ä\u2028b\n\nc\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_unwritable_places_are_user_errors(tmp_path):
    write(tmp_path / "file", "")
    with pytest.raises(UserError, match="cannot be written"), new_file(tmp_path / "file" / "x"):
        pass
    with pytest.raises(UserError, match="cannot be made"), new_folder(tmp_path / "file" / "x"):
        pass


def test_new_folder_is_whole_or_absent(tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(UserError, match="halfway"), new_folder(folder) as partial:
        write(partial / "a", "half")
        raise UserError("halfway")
    assert list(tmp_path.iterdir()) == []

    leftover = tmp_path / "out.partial"  # as a killed run leaves it
    leftover.mkdir()
    write(leftover / "junk", "")
    with new_folder(folder) as partial:
        write(partial / "a", "whole")
        assert not folder.exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "a"]
    with pytest.raises(UserError, match="exists already"), new_folder(folder):
        pass
    assert (folder / "a").read_text() == "whole"


def test_download_checks_the_sum(tmp_path):
    original = write(tmp_path / "original", b"data" * 1000)
    good = hashlib.sha256(original.read_bytes()).hexdigest()
    copy = tmp_path / "in" / "copy"

    with pytest.raises(UserError, match=rf"SHA-256 is {good}, expected 00"):
        download(original.as_uri(), copy, "00")
    assert list(copy.parent.iterdir()) == []

    assert download(original.as_uri(), copy, good).read_bytes() == original.read_bytes()
    original.unlink()
    assert download(original.as_uri(), copy, good) == copy  # not fetched again
    write(copy, b"damaged")
    with pytest.raises(UserError, match="download failed"):
        download(original.as_uri(), copy, good)


def test_download_without_a_checksum_is_done_once(tmp_path):
    original = write(tmp_path / "original", b"data" * 1000)
    copy = tmp_path / "in" / "copy"
    assert download(original.as_uri(), copy, None).read_bytes() == original.read_bytes()
    original.unlink()
    assert download(original.as_uri(), copy, None) == copy


class BreaksOff(http.server.BaseHTTPRequestHandler):
    """Promises more than it sends."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5000")
        self.end_headers()
        self.wfile.write(b"data" * 1000)

    def log_message(self, *arguments):
        pass


def test_a_broken_download_leaves_nothing(tmp_path):
    with http.server.HTTPServer(("127.0.0.1", 0), BreaksOff) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/x"
            with pytest.raises(UserError, match=r"download failed \(.*4000 "):
                download(url, tmp_path / "copy", None)
        finally:
            server.shutdown()
            thread.join()
    assert list(tmp_path.iterdir()) == []
