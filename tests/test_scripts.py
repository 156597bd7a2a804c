"""Every command: its help, a reader that goes away, and optional packages that are not there."""

from __future__ import annotations

import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from toy import ROOT

SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))
MODULES = ["fairseq_cgc", "fairseq_cgc.vision", "fairseq_cgc.video"]
IMAGES = {f"{verb}_{kind}.py" for verb in ("train", "evaluate") for kind in ("image", "video")}

#: What is not installed without an extra of setup.py, and what scripts for images say then.
#: (fairseq brings scikit-learn, and matplotlib brings pillow.)
MISSING = {
    "plots": (["matplotlib"], ""),
    "vision": (["torchmetrics"], "pip install torchmetrics"),
    "both": (["matplotlib", "PIL", "torchmetrics"], "pip install pillow torchmetrics"),
}
WITHOUT = """
import contextlib, importlib.metadata, io, json, runpy, sys
missing = sys.argv[1].split(",")
sys.modules.update(dict.fromkeys(missing))
distribution = importlib.metadata.distribution
def installed(name):  # torchmetrics asks for matplotlib here
    if name in missing:
        raise importlib.metadata.PackageNotFoundError(name)
    return distribution(name)
importlib.metadata.distribution = installed
found = {}
for path, *arguments in json.loads(sys.argv[2]):
    sys.argv = [path, *arguments]
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            runpy.run_path(path, run_name="__main__")
            status = 0
        except SystemExit as stop:
            status = stop.code
    found[" ".join([path.rpartition("/")[2], *arguments])] = [status, errors.getvalue()]
print(json.dumps(found))
"""


def call(name: str, *arguments: str, stdout: io.TextIOBase | None = None) -> object:
    """Run a script or a module as a program, in this process; its exit status."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", [name, *arguments])
        patch.setattr(sys, "stdout", stdout or sys.stdout)
        patch.delitem(sys.modules, f"{name}.__main__", raising=False)
        if name in MODULES:
            runpy.run_module(name, run_name="__main__")
        else:
            runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")
    return stop.value.code


def call_without_reader(name: str, *arguments: str) -> object:
    """The same, where standard output is a pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    with io.TextIOWrapper(os.fdopen(writer, "wb")) as stream:
        return call(name, *arguments, stdout=stream)


@pytest.mark.parametrize("name", [*SCRIPTS, *MODULES])
def test_help(name: str, capsys: pytest.CaptureFixture) -> None:
    assert call(name, "--help") == 0
    output = capsys.readouterr()
    assert output.out.startswith("usage: ") and output.err == ""


@pytest.mark.parametrize(
    "command",
    [
        *[[name, "--help"] for name in [*SCRIPTS, *MODULES]],
        ["fairseq_cgc"],
        ["fairseq_cgc.vision", "resnet8_cifar"],
        ["fairseq_cgc.video", "tsn"],
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
    analyse, out = str(ROOT / "scripts" / "analyse.py"), str(tmp_path / "x.png")
    commands = [[str(ROOT / "scripts" / name), "--help"] for name in SCRIPTS]
    commands += [
        [analyse, "curves", str(tmp_path / "train.log"), "--out", out],
        [analyse, "curves", str(tmp_path), "--out", out],
        [analyse, "cam", "best.pt", "--out", out],
        [analyse, "kernels", "best.pt", "--data", "digits", "--out", out],
        [analyse, "gates", "model.pt", "--data", "data", "--out", out],
        [str(ROOT / "scripts" / "reproduce.py"), "table6", "--out", str(tmp_path / "out")],
    ]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, ",".join(packages), json.dumps(commands)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name in SCRIPTS:
        status, errors = found[f"{name} --help"]
        if extra != "plots" and name in IMAGES:
            assert str(status).startswith("error: ") and advice in status
        else:
            assert (status, errors) == (0, "")
    rest = [(name, result) for name, result in found.items() if not name.endswith("--help")]
    for name, (status, errors) in rest:
        if extra != "vision":
            advice = "error: drawing needs matplotlib: pip install 'fairseq-cgc[plots]'\n"
            assert (status, errors) == (1, advice), name
        elif " curves " in name:
            assert (status, errors) == (0, ""), name
        else:  # the files are not there
            assert status == 1 and errors.startswith("error: ") and errors.count("\n") == 1, name
            assert ("pip install" in errors) == (" cam " in name or " kernels " in name), name
