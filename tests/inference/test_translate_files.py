from __future__ import annotations

import os
import select
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from our_commands import ENVIRONMENT, call, command_line, run_command
from tinyrun import TinyRun

from fairseq_cgc.inference.files import (
    check_output,
    partial_file,
    translate_file,
    translate_stream,
)
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.support.errors import UserError


class Upper:
    """Stands for a translator; can be interrupted at a line."""

    def __init__(self, stop_at: str | None = None) -> None:
        self.stop_at = stop_at
        self.translated: list[str] = []
        self.first_line = 0

    def translate(
        self, lines: Iterable[str], *, buffer_size: int, first_line: int = 1
    ) -> Iterator[str]:
        self.first_line = first_line
        for line in lines:
            if line == self.stop_at:
                raise KeyboardInterrupt
            self.translated.append(line)
            yield line.upper()


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text"
    path.write_text("one\ntwo\n\nfour\n", encoding="utf-8")
    return path


def test_an_interrupted_file_is_continued(tmp_path: Path, text: Path) -> None:
    output, partial = tmp_path / "out", tmp_path / "out.partial"
    with pytest.raises(KeyboardInterrupt):
        translate_file(Upper(stop_at="four"), text, output, partial, buffer_size=2)
    assert not output.exists() and partial.read_text() == "ONE\nTWO\n\n"
    partial.write_text("ONE\nTWO\n\nFO")  # As if killed in the middle of a line.
    second = Upper()
    translate_file(second, text, output, partial, buffer_size=2)
    assert second.translated == ["four"] and second.first_line == 4
    assert output.read_text() == "ONE\nTWO\n\nFOUR\n"
    assert not partial.exists()


def test_partial_output_belongs_to_files_and_settings(tmp_path: Path, text: Path) -> None:
    output = tmp_path / "out"
    first = partial_file(output, [text], SearchOptions())
    assert first.parent == tmp_path and first.name.startswith("out.")
    assert first == partial_file(output, [text], SearchOptions())
    assert first != partial_file(output, [text], SearchOptions(beam=2))
    text.write_text("changed")
    assert first != partial_file(output, [text], SearchOptions())


def test_a_stream_appears_when_complete(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        translate_stream(Upper(stop_at="b"), ["a", "b"], output, buffer_size=1)
    assert list(tmp_path.iterdir()) == []
    translate_stream(Upper(), ["a", "b"], output, buffer_size=1)
    assert output.read_text() == "A\nB\n"


@pytest.mark.slow
def test_command_translates_pipes_and_files(run: TinyRun, tmp_path: Path) -> None:
    model = [run.save_dir / "checkpoint_best.pt", "--data", run.data_dir, "--cpu", "--beam", 2]
    source = tmp_path / "in.de"
    source.write_text("Der Hund sieht den Ball.\n\nDer Mann sucht den Baum.\n", encoding="utf-8")
    marked = b"\xef\xbb\xbf\r\n" + source.read_bytes().replace(b"\n", b"\r\n")
    piped = run_command("translate", *model, input=marked)
    assert piped.returncode == 0, piped.stderr.decode()
    empty, translations = piped.stdout[:1], piped.stdout[1:]
    assert empty == b"\n"  # a line of nothing but a byte-order mark is empty
    assert translations.startswith(b"the ") and translations.count(b"\n") == 3
    assert translations.split(b"\n")[1] == b""

    output = tmp_path / "new" / "out.en"
    written = run_command("translate", *model, "--input", source, "--output", output)
    assert written.returncode == 0 and written.stdout == b""
    assert b"3/3" in written.stderr  # progress
    assert output.read_bytes() == translations
    assert list(output.parent.iterdir()) == [output]

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = subprocess.Popen(["cp", source, pipe])
    through = run_command("translate", *model, "--input", pipe, "--output", output)
    assert writer.wait() == 0 == through.returncode
    assert output.read_bytes() == translations

    source.write_bytes(b"Der Hund.\nDer B\xe4r.\n")
    broken = run_command("translate", *model, "--input", source, "--output", output)
    message = broken.stderr.decode().strip().splitlines()[-1]
    assert broken.returncode == 1 and "in.de, line 2: not UTF-8" in message
    assert b"Traceback" not in broken.stderr
    assert output.read_bytes() == translations


@pytest.mark.slow
def test_partial_output_belongs_to_the_prepared_data(
    run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, output, partials = tmp_path / "data", tmp_path / "out" / "text", []
    shutil.copytree(run.data_dir, data)
    monkeypatch.setattr(
        "fairseq_cgc.inference.files.translate_file",
        lambda *given, buffer_size: partials.append(given[3]),
    )
    arguments = [run.save_dir / "checkpoint_best.pt", "--data", data, "--cpu"]
    arguments += ["--input", run.raw["de"], "--output", output]
    for name in ("code", "dict.de.txt", "dict.en.txt", "preparation.json"):
        call("translate", *arguments)
        os.utime(data / name, (1, 1))
    call("translate", *arguments)
    assert len(set(partials)) == 5
    (data / "preparation.json").unlink()
    with pytest.raises(UserError, match=f"{data} has no preparation.json"):
        call("translate", *arguments)


@pytest.mark.slow
def test_typed_lines_are_translated_at_once(run: TinyRun) -> None:
    arguments = [run.save_dir / "checkpoint_best.pt", "--data", run.data_dir, "--cpu", "--beam=2"]
    keyboard, terminal = os.openpty()
    with subprocess.Popen(
        command_line("translate", *arguments),
        env=ENVIRONMENT,
        stdin=terminal,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        os.write(keyboard, b"Der Hund sieht den Ball.\n")
        assert select.select([process.stdout], [], [], 100)[0]
        assert process.stdout.readline().startswith(b"the ")
        assert process.poll() is None
        os.write(keyboard, b"\x04")
    assert process.returncode == 0
    os.close(keyboard)
    os.close(terminal)


def test_two_processes_do_not_write_into_one_output(tmp_path: Path, text: Path) -> None:
    output, partial = tmp_path / "out", tmp_path / "out.partial"

    class Meanwhile(Upper):
        """Starts the same translation again while it translates."""

        def translate(self, lines: Iterable[str], **options: int) -> Iterator[str]:
            for line in super().translate(lines, **options):
                with pytest.raises(UserError, match="another process is translating into .*out"):
                    translate_file(Upper(), text, output, partial, buffer_size=2)
                yield line

    translate_file(Meanwhile(), text, output, partial, buffer_size=2)
    assert output.read_text() == "ONE\nTWO\n\nFOUR\n"


def test_what_is_needed_is_not_overwritten(tmp_path: Path, text: Path) -> None:
    check_output(tmp_path / "new" / "out", [text, tmp_path / "absent"])
    assert (tmp_path / "new").is_dir()
    link = tmp_path / "link"
    link.symlink_to(text)
    for output in (text, link, tmp_path / "new" / ".." / "text"):
        with pytest.raises(UserError, match="would overwrite .*text, which is needed"):
            check_output(output, [text])
    with pytest.raises(UserError, match="--output /dev/null is not a regular file"):
        check_output(Path("/dev/null"), [text])
    for output in (tmp_path, Path()):
        with pytest.raises(UserError, match="is a folder, but must be a file"):
            check_output(output, [text])
