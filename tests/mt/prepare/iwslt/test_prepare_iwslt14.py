"""fairseq-cgc prepare-iwslt14 as a user runs it."""

import signal
import subprocess
import time

import iwslt_archive as small
import pytest
from our_commands import ENVIRONMENT, call, command_line

from fairseq_cgc.mt.prepare.corpora import download
from fairseq_cgc.mt.prepare.iwslt import URL
from fairseq_cgc.support.errors import UserError


def start(*arguments):
    return subprocess.Popen(
        command_line("prepare-iwslt14", *arguments),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments):
    """Exit status, standard output and standard error."""
    process = start(*arguments)
    output, errors = process.communicate()
    return process.returncode, output, errors


def test_archive_to_counts_and_again(tmp_path):
    archive = small.write_archive(tmp_path / "de-en.tgz", small.campaign_files())
    arguments = [tmp_path / "out", "--from", archive, "--workers", 2]
    status, output, errors = run(*arguments)
    assert status == 0, errors
    lines = output.splitlines()
    assert lines[0] == f"fairseq-train {tmp_path / 'out' / 'bin'} | dropped from train: 6"
    assert [lines[2].split(), lines[4].split()] == [
        ["train", "pairs", "46", "160,239", "DIFFERS"],
        ["test", "pairs", "8", "6,750", "DIFFERS"],
    ]
    assert len(lines) == 1 + 1 + 11 + 1
    assert lines[-1].startswith("11 of 11 counts differ from the reference: this is not the public")
    status, again, errors = run(*arguments)
    assert (status, again) == (0, output)
    assert errors.count("is complete; not made again") == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "nowhere"], "--from nowhere does not exist"),
        (["--source-lang", "fr"], "--from is needed: only German-English of 2014 has a public"),
        (["--target-lang", "de"], "--source-lang and --target-lang are both de, but must differ"),
        (["--target-lang", "EN"], "--target-lang is EN, but must be a two- or three-letter code"),
        (["--bpe-size", "0"], "--bpe-size is 0, but must be positive"),
        (["--from", ".", "--year", "14"], "--year is 14, but must be a year such as 2014"),
    ],
)
def test_errors_are_one_line(tmp_path, arguments, message):
    with pytest.raises(UserError) as caught:
        call("prepare-iwslt14", tmp_path / "out", *arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_exit_status_of_an_error(tmp_path):
    archive = tmp_path / "x.tgz"
    archive.write_bytes(b"not an archive")
    status, output, errors = run(tmp_path / "out", "--from", archive)
    assert (status, output) == (1, "")
    assert errors.splitlines()[-1].startswith(f"error: {archive}: not a whole tar archive")
    assert "Traceback" not in errors


@pytest.mark.slow
def test_killed_anywhere_it_continues_to_the_same_result(tmp_path):
    files = small.campaign_files()
    for side, lang in enumerate(small.LANGS):
        files[f"train.tags.de-en.{lang}"] = small.train_file(side).encode() * 200
    archive = small.write_archive(tmp_path / "de-en.tgz", files)
    options = ("--from", archive, "--workers", 2, "--bpe-size", 200)
    out = tmp_path / "out"
    for step in ("orig", "text", "bpe", "bin"):
        process = start(out, *options)
        while not (out / f"{step}.partial").exists():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (out / step).exists()
    assert run(out, *options)[0] == 0
    assert run(tmp_path / "whole", *options)[0] == 0
    trees = [
        {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.name != "preprocess.log"
        }
        for folder in (out, tmp_path / "whole")
    ]
    assert trees[0] == trees[1]
    assert len(trees[0]) > 40


@pytest.mark.network
def test_public_archive(tmp_path):
    """All counts equal the reference."""
    archive = download(URL, tmp_path / "de-en.tgz", None)
    status, output, errors = run(tmp_path / "out", "--from", archive)
    assert status == 0, errors
    assert output.splitlines()[-1] == "all 11 counts equal the reference"
