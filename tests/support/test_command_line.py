"""What all commands share: errors in one line and misspelt options."""

import os
import sys

import pytest

from fairseq_cgc.support.command_line import CommandParser, run_main
from fairseq_cgc.support.errors import UserError


def test_user_error_is_one_line_and_status_1(capsys):
    def main() -> None:
        raise UserError("--beam is 0, but must be at least 1")

    with pytest.raises(SystemExit) as stop:
        run_main(main)
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: --beam is 0, but must be at least 1\n"


def test_interruption_says_how_to_go_on(capsys):
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        run_main(main)
    assert stop.value.code == 130
    assert "run the same command again" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_stream_that_the_caller_closed_is_empty(name, monkeypatch):
    monkeypatch.setattr(sys, name, None)
    run_main(lambda: print(sys.stdin.read() if name == "stdin" else "x", file=sys.stderr))
    assert getattr(sys, name).name == os.devnull


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("a\nb\x1b[2J: no\u2028text"), "a\\nb\\x1b[2J: no\\u2028text"),
        (UserError("größe.txt: fehlt"), "größe.txt: fehlt"),
        (
            OSError(28, "No space left on device", "out"),
            "[Errno 28] No space left on device: 'out'",
        ),
    ],
    ids=["control characters", "umlauts", "full disk"],
)
def test_an_error_is_one_line_whatever_a_file_is_called(capsys, error, line):
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        run_main(main)
    assert stop.value.code == 1
    assert capsys.readouterr().err == f"error: {line}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lenpn=1"], "unrecognized arguments: --lenpn=1; did you mean --lenpen?"),
        (["--xyz"], "unrecognized arguments: --xyz"),
        (["gates", "--lmit=3"], "unrecognized arguments: --lmit=3; did you mean --limit?"),
        (["gates", "one"], "unrecognized arguments: one"),
    ],
)
def test_a_misspelt_option_is_told_with_the_nearest_name(capsys, words, message):
    parser = CommandParser(prog="fairseq-cgc x")
    parser.add_argument("--lenpen", type=float)
    parser.add_subparsers().add_parser("gates").add_argument("--limit", type=int)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(words)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("usage: fairseq-cgc x")
    assert error.splitlines()[-1].endswith(f"error: {message}")
