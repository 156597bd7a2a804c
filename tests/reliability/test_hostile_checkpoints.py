"""Files that run code where they are unpickled: refused by every route, and not run."""

from __future__ import annotations

import argparse
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoint_routes
import pytest
import torch
import warm
from conftest import Trained
from fairseq import checkpoint_utils

from fairseq_cgc.compat.expressions import evaluate
from fairseq_cgc.core import UserError
from fairseq_cgc.models import LightConvCGCModel
from fairseq_cgc.support.checkpoints import read_safely, safe_load
from fairseq_cgc.vision import create_model
from fairseq_cgc.vision.training.checkpoints import load_checkpoint

pytestmark = [pytest.mark.reliability, pytest.mark.xdist_group("reliability")]


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


class Evaluates(Runs):
    """The same by another way."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.canary)!r}, 'w')",)


def in_zip(path: Path, canary: Path) -> None:
    torch.save({"model": {}, "args": Runs(canary)}, path)


def in_optimizer(path: Path, canary: Path) -> None:
    state = {"model": {"w": torch.ones(2)}, "last_optimizer_state": {"state": [Evaluates(canary)]}}
    torch.save(state, path)


def in_old_format(path: Path, canary: Path) -> None:
    torch.save({"model": Runs(canary)}, path, _use_new_zipfile_serialization=False)


def in_bare_pickle(path: Path, canary: Path) -> None:
    path.write_bytes(pickle.dumps(Runs(canary)))


def in_torchscript(path: Path, canary: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))


KINDS = [in_zip, in_optimizer, in_old_format, in_bare_pickle, in_torchscript]
FUNCTIONS: dict[str, Callable[[Path], object]] = {
    "safe_load": safe_load,
    "read_safely": read_safely,
    "load_checkpoint_to_cpu": lambda path: checkpoint_utils.load_checkpoint_to_cpu(str(path)),
    "load_ema_from_checkpoint": lambda path: checkpoint_utils.load_ema_from_checkpoint(str(path)),
    "from_pretrained": lambda path: LightConvCGCModel.from_pretrained(str(path.parent), path.name),
    "load_checkpoint of images": load_checkpoint,
    "create_model": lambda path: create_model("resnet8_cifar", 10, weights=path),
}


@pytest.mark.parametrize("name", [*checkpoint_routes.COMMANDS])
def test_command_refuses_code_in_one_line(name: str, trained: Trained, tmp_path: Path) -> None:
    path, canary = tmp_path / "hostile.pt", tmp_path / "canary"
    in_zip(path, canary)
    result = checkpoint_routes.give(name, trained.data, path, tmp_path)
    [line] = result.errors
    assert "hostile.pt is refused: it asks to run or build posix.system" in line
    assert result.status == 1 and "Traceback" not in result.output
    assert not canary.exists()


def test_training_refuses_code_in_its_own_folder(trained: Trained, tmp_path: Path) -> None:
    canary, out = tmp_path / "canary", tmp_path / "save"
    out.mkdir()
    in_zip(out / "checkpoint_last.pt", canary)
    result = warm.run(tmp_path / "log", *checkpoint_routes.training(trained.data, out))
    [line] = result.errors
    assert "checkpoint_last.pt is refused: it asks to run or build posix.system" in line
    assert result.status == 1 and "Traceback" not in result.output
    assert not canary.exists()


@pytest.mark.parametrize("unsafe", [False, True], ids=["", "forced"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("function", [*FUNCTIONS])
def test_function_refuses_code(
    function: str, kind: Any, unsafe: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What some advise against torch's own refusals must not open the door here.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1" if unsafe else "0")
    path, canary = tmp_path / "hostile.pt", tmp_path / "canary"
    kind(path, canary)
    with pytest.raises(UserError, match=r"hostile\.pt is (refused: it asks|damaged, or not a)"):
        FUNCTIONS[function](path)
    assert not canary.exists()


@pytest.mark.parametrize("payload", [Runs, Evaluates])
def test_the_payloads_run_code(payload: type[Runs], tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    pickle.loads(pickle.dumps(payload(canary)))
    assert canary.exists()


def test_the_files_carry_a_payload(tmp_path: Path) -> None:
    for kind in (in_zip, in_optimizer, in_old_format, in_bare_pickle):
        path, canary = tmp_path / "hostile.pt", tmp_path / kind.__name__
        kind(path, canary)
        content = path.read_bytes()
        assert str(canary).encode() in content
        assert b"system" in content or b"eval" in content


@pytest.mark.parametrize("command", ["generate", "validate"])
def test_options_of_a_checkpoint_are_not_run(
    command: str, trained: Trained, tmp_path: Path
) -> None:
    """fairseq's older models evaluate options as Python; a checkpoint brings its own."""
    canary = tmp_path / "canary"
    args = argparse.Namespace(
        arch="fconv", task="translation", criterion="cross_entropy", data=str(trained.data),
        source_lang="de", target_lang="en", encoder_layers=f"__import__('os').mkdir('{canary}')",
    )  # fmt: skip
    path = trained.changed(tmp_path / "hostile.pt", args=args, cfg=None)
    result = checkpoint_routes.give(command, trained.data, path, tmp_path)
    [line] = result.errors
    assert "an option is \"__import__('os').mkdir(" in line
    assert result.status == 1 and "Traceback" not in result.output
    assert not canary.exists()


def test_a_checkpoint_names_no_plugin(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "plugin").mkdir()
    canary = tmp_path / "canary"
    (tmp_path / "plugin" / "__init__.py").write_text(f"open({str(canary)!r}, 'w')")
    cfg = safe_load(trained.last)["cfg"]
    cfg["common"]["user_dir"] = str(tmp_path / "plugin")
    path = trained.changed(tmp_path / "x.pt", cfg=cfg)
    result = checkpoint_routes.give("validate", trained.data, path, tmp_path)
    assert result.status == 0, result.output[-3000:]
    LightConvCGCModel.from_pretrained(str(tmp_path), "x.pt", str(trained.data))
    assert not canary.exists()


@pytest.mark.parametrize(
    "expression",
    ["[(512, 3)] * 2 + [(1, -2)]", "(0.9, 0.98)", " 1e-4", "True", "{'a': [1, None]}", "1 / 4"],
)
def test_options_that_are_values(expression: str) -> None:
    assert evaluate(expression) == eval(expression.strip())


@pytest.mark.parametrize(
    "expression",
    [
        "open('x')", "().__class__", "[x for x in (1,)]", "1 if 1 else 2", "", "2 +", "f'{1}'",
        "lambda: 1", "2 ** 9", "{**{}}", "[*(1,)]", "x", "1 / 0", "1; 2", "-'a'", "(" * 500, "\0",
    ],
    ids=lambda expression: expression[:9].replace("\0", "zero"),
)  # fmt: skip
def test_options_that_are_not(expression: str) -> None:
    with pytest.raises(UserError, match="^an option is .* but must be a value such as"):
        evaluate(expression)
