import sys

import pytest

from fairseq_cgc.mt.fairseq_commands import PACKAGE_DIR, fairseq_command, run_fairseq, run_main
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


def test_command_is_of_this_python_and_package():
    command = fairseq_command("train", ["DATA", "--lr", "1"])
    assert command == [
        *(sys.executable, "-m", "fairseq_cli.train", "DATA", "--lr", "1"),
        *("--user-dir", str(PACKAGE_DIR)),
    ]
    assert (PACKAGE_DIR / "compat" / "__init__.py").is_file()


def test_failing_command_is_told_with_its_last_line(tmp_path):
    with pytest.raises(UserError, match=r"fairseq-train failed: .*error: .*\(see .*log\)"):
        run_fairseq("train", ["DATA", "--arch", "lightconv", "--no-such"], log=tmp_path / "log")


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
