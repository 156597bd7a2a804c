from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from our_commands import run_command
from outputs import noisy, sentences

from fairseq_cgc.mt.evaluate.comparison_files import CompareOptions, compare_files, default_names
from fairseq_cgc.support.errors import UserError

REFERENCES = sentences(40)
A, B = noisy(REFERENCES, 0.4, seed=1), noisy(REFERENCES, 0.3, seed=2)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """``ref``, ``base`` and ``ours``, plain, gzip and with Windows' line ends."""
    paths = {name: tmp_path / name for name in ("ref.txt", "base.txt.gz", "ours.txt")}
    paths["ref.txt"].write_text("".join(f"{line}\n" for line in REFERENCES), encoding="utf-8")
    with gzip.open(paths["base.txt.gz"], "wb") as stream:
        stream.write("".join(f"{line}\n" for line in A).encode())
    paths["ours.txt"].write_bytes("".join(f"{line}\r\n" for line in B).encode())
    return {name.split(".")[0]: path for name, path in paths.items()}


def test_files_are_read_and_the_page_written(files: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    options = CompareOptions(source=files["ref"], samples=20, html=page, top=3)
    comparison = compare_files(files["ref"], files["base"], files["ours"], options)
    assert comparison.names == ("base", "ours")
    assert [s.a for s in comparison.sentences] == A and [s.b for s in comparison.sentences] == B
    assert [s.source for s in comparison.sentences] == REFERENCES
    text = page.read_text(encoding="utf-8")
    assert text.count('<article class="pair"') == 3 and "<dt>Source</dt>" in text
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]


def test_options_reach_the_comparison(files: dict[str, Path]) -> None:
    options = CompareOptions(
        names=" x , y ", lowercase=True, target_lang="zh", test="approximate-randomization",
        samples=30,
    )  # fmt: skip
    comparison = compare_files(files["ref"], files["base"], files["ours"], options)
    assert comparison.names == ("x", "y") and comparison.samples == 30
    for part in ("ar:30", "case:lc", "tok:zh"):
        assert part in comparison.tests[0].signature


@pytest.mark.parametrize(
    "a, b, names",
    [
        ("runs/base/test/hypotheses.txt", "runs/cgc/test/hypotheses.txt", ("base", "cgc")),
        ("base.txt", "cgc.txt.gz", ("base", "cgc")),
        ("monday/base/out.txt", "sunday/cgc/out.txt", ("base", "cgc")),
        ("monday/out/base.txt", "sunday/out/cgc.txt", ("base", "cgc")),
        ("out.txt", "out.txt.gz", ("out.txt", "out.txt.gz")),
        ("runs/v1.2.en", "runs/v1.3.en", ("v1.2.en", "v1.3.en")),
        ("same.txt", "same.txt", ("A", "B")),
        (".txt", "x", (".txt", "x")),
    ],
)
def test_names_from_what_differs(a: str, b: str, names: tuple[str, str], tmp_path: Path) -> None:
    assert default_names(tmp_path / a, tmp_path / b) == names


def test_the_same_file_twice(files: dict[str, Path]) -> None:
    comparison = compare_files(
        files["ref"], files["ours"], files["ours"], CompareOptions(samples=20)
    )
    assert comparison.verdict == "A and B have the same BLEU."
    assert [test.p_value for test in comparison.tests] == [1, 1]


def test_command_prints_the_table_and_writes_the_page(
    files: dict[str, Path], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    done = run_command(
        "compare", files["ref"], files["base"], files["ours"], "--samples", 50, "--html", page
    )
    assert done.returncode == 0, done.stderr.decode()
    options = CompareOptions(samples=50)
    expected = compare_files(files["ref"], files["base"], files["ours"], options)
    assert done.stdout.decode() == f"{expected.table()}\n\npage: {page}\n"
    assert done.stderr.decode() == "comparing 40 sentences\n"
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_script_ends_with_one_line(files: dict[str, Path], tmp_path: Path) -> None:
    done = run_command("compare", files["ref"], files["base"], tmp_path / "none")
    assert done.returncode == 1 and done.stdout == b""
    assert done.stderr.decode() == (
        f"error: {tmp_path / 'none'}: cannot be read (No such file or directory)\n"
    )


@pytest.mark.parametrize(
    "text, message",
    [
        (b"one line\n", "{ours} has 1 lines, but {ref} has 40"),
        (b"", "{ours} has 0 lines, but {ref} has 40"),
        (b"good\nbad \xff\n", "{ours}, line 2: not UTF-8 (byte 0xff, number 5 of the line)"),
    ],
)
def test_bad_files_leave_nothing(
    text: bytes, message: str, files: dict[str, Path], tmp_path: Path
) -> None:
    files["ours"].write_bytes(text)
    options = CompareOptions(samples=5, html=tmp_path / "page.html")
    with pytest.raises(UserError) as caught:
        compare_files(files["ref"], files["base"], files["ours"], options)
    assert str(caught.value) == message.format(**files)
    assert not (tmp_path / "page.html").exists()


def test_all_files_empty(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("ref", "a", "b")]
    for path in paths:
        path.touch()
    with pytest.raises(UserError, match="a and .*ref are empty"):
        compare_files(*paths, CompareOptions())


def test_source_of_another_length(files: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("a\nb\n", encoding="utf-8")
    with pytest.raises(UserError, match="source has 2 lines, but .*ref.txt has 40"):
        compare_files(files["ref"], files["base"], files["ours"], CompareOptions(source=source))


def test_page_that_cannot_be_written(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for page in (tmp_path / "file" / "page.html", tmp_path):
        options = CompareOptions(samples=5, html=page)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(UserError, match="cannot be written"):
            compare_files(files["ref"], files["base"], files["ours"], options)
        assert sorted(tmp_path.rglob("*")) == before


def test_page_does_not_overwrite_what_is_compared(files: dict[str, Path]) -> None:
    before = files["ours"].read_bytes()
    options = CompareOptions(samples=5, html=files["ours"].parent / "." / "ours.txt")
    with pytest.raises(UserError, match="ours.txt is one of the files to compare"):
        compare_files(files["ref"], files["base"], files["ours"], options)
    assert files["ours"].read_bytes() == before


@pytest.mark.parametrize(
    "change, message",
    [
        ({"names": "one"}, "--names must be two different names, as in base,cgc, but is 'one'"),
        ({"names": "a,a"}, "but is 'a,a'"),
        ({"names": "a,b,c"}, "but is 'a,b,c'"),
        ({"names": "a,"}, "but is 'a,'"),
        ({"top": 0}, "--top is 0, but must be at least 1"),
        ({"samples": -1}, "--samples must be at least 1, but is -1"),
        ({"test": "sign"}, "--test is 'sign', but must be"),
    ],
)
def test_bad_options(change: dict, message: str, files: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=message):
        compare_files(files["ref"], files["base"], files["ours"], CompareOptions(**change))
