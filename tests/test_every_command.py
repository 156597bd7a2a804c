"""Every command: its help, a reader that goes away, and optional packages that are not there."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from our_commands import ENVIRONMENT, run_command

from fairseq_cgc import commands
from fairseq_cgc.__main__ import cli_main, main
from fairseq_cgc.support.errors import UserError

IMAGES = {f"{verb}-{kind}" for verb in ("train", "evaluate") for kind in ("image", "video")}

#: What is not installed without an extra of setup.py, and what commands for images say then.
#: (fairseq brings scikit-learn, and matplotlib brings pillow.)
MISSING = {
    "plots": (["matplotlib"], ""),
    "both": (["matplotlib", "PIL"], "pip install pillow"),
}
WITHOUT = """
import contextlib, importlib.metadata, io, json, sys
from fairseq_cgc.__main__ import cli_main
missing = sys.argv[1].split(",")
sys.modules.update(dict.fromkeys(missing))
distribution = importlib.metadata.distribution
def installed(name):
    if name in missing:
        raise importlib.metadata.PackageNotFoundError(name)
    return distribution(name)
importlib.metadata.distribution = installed
found = {}
for words in json.loads(sys.argv[2]):
    sys.argv = ["fairseq-cgc", *words]
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            cli_main()
            status = 0
        except SystemExit as stop:
            status = stop.code
    found[" ".join(words)] = [status, errors.getvalue()]
print(json.dumps(found))
"""


def call(*words: str, stdout: io.TextIOBase | None = None) -> object:
    """Run ``fairseq-cgc``, in this process; its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fairseq-cgc", *words])
        patch.setattr(sys, "stdout", stdout or sys.stdout)
        try:
            cli_main()
        except SystemExit as stop:
            return stop.code
    return 0


def call_without_reader(*words: str) -> object:
    """The same, where standard output is a pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    with io.TextIOWrapper(os.fdopen(writer, "wb")) as stream:
        return call(*words, stdout=stream)


def test_a_module_for_every_command_and_a_line_in_the_help(
    capsys: pytest.CaptureFixture,
) -> None:
    folder = Path(commands.__file__).parent
    modules = {path.stem.replace("_", "-") for path in folder.glob("[!_]*.py")}
    assert modules - {"vision-commands"} == set(commands.NAMES)
    for words in ([], ["--help"], ["-h"]):
        assert call(*words) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) < 25 and max(map(len, lines)) <= 80
        assert [line[9:].split()[0] for line in lines[2:]] == commands.NAMES


def test_the_help_imports_no_torch() -> None:
    code = (
        "import sys\nfrom fairseq_cgc.__main__ import main\nmain([])\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'fairseq')))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_a_misspelt_command_is_told_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="there is no command 'evalute'; did you mean evaluate?"):
        main(["evalute"])
    with pytest.raises(UserError, match="there is no command 'x'; see fairseq-cgc --help"):
        main(["x"])


def test_info_prints_the_folder_alone() -> None:
    done = run_command("info", "--user-dir", text=True)
    assert done.stdout == f"{Path(commands.__file__).parents[1]}\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_that_needs_fairseq_says_so() -> None:
    code = (
        "import sys; sys.modules['fairseq'] = None\n"
        "from fairseq_cgc.__main__ import cli_main; cli_main()"
    )
    words = ["evaluate", "a", "--data", "b"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: fairseq_cgc.models needs fairseq: pip install ")
    assert done.stderr.count("\n") == 1


def test_help_and_compare_need_no_fairseq(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("a b c d\n", encoding="utf-8")
    words = [[name, "--help"] for name in commands.NAMES if name not in IMAGES]
    words.append(["compare", *[str(text)] * 3, "--samples", "2"])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "fairseq", json.dumps(words)],
        env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name, (status, errors) in json.loads(done.stdout).items():
        assert (status or 0) == 0 and "error" not in errors, (name, errors)


@pytest.mark.parametrize("name", commands.NAMES)
def test_help(name: str, capsys: pytest.CaptureFixture) -> None:
    assert call(name, "--help") == 0
    output = capsys.readouterr()
    assert output.out.startswith(f"usage: fairseq-cgc {name} ") and output.err == ""
    assert f"    fairseq-cgc {name}" in output.out  # an example


@pytest.mark.parametrize(
    "command",
    [
        *[[name, "--help"] for name in commands.NAMES],
        [],
        ["info"],
        ["table", "image", "resnet8_cifar"],
        ["table", "video", "tsn"],
    ],
    ids=" ".join,
)
def test_a_reader_that_stops_early_ends_it_quietly(
    command: list[str], capsys: pytest.CaptureFixture
) -> None:
    status = call_without_reader(*command)
    # Where a help text is longer than the buffer, argparse itself does not mind.
    assert status == 141 or (status == 0 and "--help" in command)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("extra", MISSING)
def test_without_an_extra(extra: str, tmp_path: Path) -> None:
    packages, advice = MISSING[extra]
    line = json.dumps({"epoch": 1, "train_nll_loss": "4", "train_num_updates": "10"})
    (tmp_path / "train.log").write_text(line + "\n", encoding="utf-8")
    line = {"epoch": 1, **{f"{p}_{k}": 1.0 for p in ("train", "val") for k in ("loss", "top1")}}
    (tmp_path / "train.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    out = str(tmp_path / "x.png")
    words = [[name, "--help"] for name in commands.NAMES]
    words += [
        ["analyse", "curves", str(tmp_path / "train.log"), "--out", out],
        ["analyse", "curves", str(tmp_path), "--out", out],
        ["analyse", "cam", "best.pt", "--out", out],
        ["analyse", "kernels", "best.pt", "--data", "digits", "--out", out],
        ["analyse", "gates", "model.pt", "--data", "data", "--out", out],
        ["analyse", "context", "model.pt", "--data", "data", "--out", out],
        ["analyse", "sentence", "model.pt", "words", "--out", out],
        ["analyse", "results", "results.json", "--out", out],
        ["reproduce", "table6", "--out", str(tmp_path / "out")],
    ]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, ",".join(packages), json.dumps(words)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name in commands.NAMES:
        status, errors = found[f"{name} --help"]
        if extra != "plots" and name in IMAGES:
            assert status == 1 and errors.startswith("error: ") and advice in errors
        else:
            assert (status, errors) == (0, "")
    rest = [(name, result) for name, result in found.items() if not name.endswith("--help")]
    for name, (status, errors) in rest:
        advice = "error: drawing needs matplotlib: pip install 'fairseq-cgc[plots]'\n"
        assert (status, errors) == (1, advice), name
