from fairseq_cgc.support.tables import markdown, text

ROWS = [("a", "1.00"), ("longer", "10.00")]


def test_markdown():
    assert list(markdown(("name", "x"), ROWS)) == [
        "| name | x |",
        "|---|--:|",
        "| a | 1.00 |",
        "| longer | 10.00 |",
    ]


def test_aligned_markdown():
    assert list(markdown(("name", "x"), ROWS, "lr", aligned=True)) == [
        "| name   |     x |",
        "|--------|------:|",
        "| a      |  1.00 |",
        "| longer | 10.00 |",
    ]


def test_rows_are_taken_one_by_one():
    def rows():
        yield ("a", "1")
        raise AssertionError("asked for a row too many")

    lines = markdown(("name", "x"), rows())
    assert [next(lines) for _ in range(3)][-1] == "| a | 1 |"
    assert next(text(rows(), "lr", (3, 2))) == "a     1"


def test_text_is_as_wide_as_its_cells():
    assert list(text(ROWS, "lr")) == ["a        1.00", "longer  10.00"]
    assert list(text([], "lr")) == []
