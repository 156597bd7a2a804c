"""fairseq-cgc tokenize as a user runs it."""

import gzip
import io
import logging
import shlex
import subprocess
import sys

import our_commands
import pytest
from tools import SHARED

from fairseq_cgc.support.errors import UserError

DATA = SHARED / "data" / "multi30k"


@pytest.fixture
def tokenize(monkeypatch):
    """Call the command with standard input and arguments; its standard output."""

    def call(text, *arguments):
        text = text if isinstance(text, bytes) else text.encode()
        output = io.BytesIO()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output))
        our_commands.call("tokenize", *arguments)
        return output.getvalue()

    return call


@pytest.mark.skipif(not DATA.is_dir(), reason="needs shared/data/multi30k")
@pytest.mark.parametrize("lang", ["de", "en"])
def test_multi30k_validation_set(tokenize, lang):
    raw = gzip.decompress((DATA / f"val.{lang}.gz").read_bytes())
    tokens = tokenize(raw, "--lang", lang, "--lowercase", "--normalize", "--workers", "2")
    assert tokens == (DATA / f"val.lc.norm.tok.{lang}").read_bytes()


@pytest.mark.parametrize("workers", ["1", "3"])
def test_order_and_line_ends(tokenize, workers):
    numbers = range(2100)
    text = "".join(f"Zeile\u2028{number}, „ja“.\r\n" for number in numbers) + "\n \u00a0\nEnde."
    expected = "".join(f"Zeile {number} , „ ja “ .\n" for number in numbers) + "\n \u00a0\nEnde .\n"
    assert tokenize(text, "--lang", "de", "--workers", workers).decode() == expected


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ([], "“ İch ” sah ΟΔΟΣ &apos; in den U.S.A .\n"),
        # The dot over the I is a character of its own, once it is lower-cased.
        (["--lowercase"], "“ i \u0307 ch ” sah οδοσ &apos; in den u.s.a .\n"),
        (["--normalize"], "&quot; İch &quot; sah ΟΔΟΣ &apos; in den U.S.A .\n"),
    ],
)
def test_each_option_changes_the_tokens(tokenize, options, tokens):
    raw = "“İch” sah ΟΔΟΣ' in den U.S.A.\n"
    assert tokenize(raw, "--lang", "de", "--workers", "1", *options).decode() == tokens


@pytest.mark.parametrize("workers", ["1", "2"])
def test_bad_utf8(tokenize, workers):
    with pytest.raises(UserError, match=r"^standard input, line 3: not UTF-8 \(byte 0xfc, number"):
        tokenize(b"gut\nauch gut\nGr\xfc\xdfe\n", "--lang", "de", "--workers", workers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lang", "german"], "--lang is german, but must be a two- or three-letter code"),
        (["--lang", "de", "--workers", "0"], "--workers is 0, but must be from 1 to"),
    ],
)
def test_errors(tokenize, arguments, message):
    with pytest.raises(UserError, match=message):
        tokenize("Text\n", *arguments)


def test_a_language_without_abbreviations_is_told_once(tokenize, caplog):
    caplog.set_level(logging.INFO, "fairseq_cgc")
    text = "Mr. X it's\n" * 1200
    assert tokenize(text, "--lang", "tr", "--workers", "2") == b"Mr. X it &apos; s\n" * 1200
    assert caplog.messages == ["Moses has no list of abbreviations for tr; English's is used"]


def run(command, **options):
    return subprocess.run(
        command.format(
            shlex.join(our_commands.command_line("tokenize", "--lang", "de", "--workers", 2))
        ),
        shell=True,
        env=our_commands.ENVIRONMENT,
        capture_output=True,
        check=False,
        **options,
    )


def test_exit_status_of_an_error():
    result = run("{}", input=b"a\n\xff\n")
    assert result.returncode == 1
    assert result.stderr.startswith(b"error: standard input, line 2: not UTF-8")
    assert result.stderr.count(b"\n") == 1


def test_a_closed_pipe_ends_quietly():
    result = run("{} | head -n 1", input=b"Ein Haus.\n" * 50_000)
    assert (result.stdout, result.stderr) == (b"Ein Haus .\n", b"")
