"""Every command that a user may give a checkpoint to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import demo_training
import warm

#: Name -> the command's words, from data folder, checkpoint and a folder for what it writes.
Route = Callable[[Path, Path, Path], list[str | Path]]


def training(data: Path, save_dir: Path) -> list[str | Path]:
    """A training of two updates."""
    return ["train", data, *demo_training.MODEL, "--max-update", "2", "--save-dir", save_dir]


def _train(option: str) -> Route:
    return lambda data, path, out: [*training(data, out / "save"), option, path]


COMMANDS: dict[str, Route] = {
    "train --restore-file": _train("--restore-file"),
    "train --finetune-from-model": _train("--finetune-from-model"),
    "train --init-from-lightconv": _train("--init-from-lightconv"),
    "generate": lambda data, path, out: ["generate", data, "--path", path, "--cpu"],
    "interactive": lambda data, path, out: [
        "interactive", data, "--path", path, "--cpu", "--input", data / "raw" / "test.de",
    ],
    "validate": lambda data, path, out: [
        "validate", data, "--path", path, "--cpu", "--batch-size", "8",
    ],
    "average_checkpoints.py": lambda data, path, out: [
        "average_checkpoints.py", path, "--output", out / "average.pt",
    ],
    "evaluate.py": lambda data, path, out: [
        "evaluate.py", path, "--data", data, "--cpu", "--output", out / "scores",
    ],
    "translate.py": lambda data, path, out: [
        "translate.py", path, "--data", data, "--cpu", "--input", data / "raw" / "test.de",
    ],
    "analyse.py gates": lambda data, path, out: [
        "analyse.py", "gates", path, "--data", data, "--out", out / "gates.png",
    ],
    "analyse.py cam": lambda data, path, out: [
        "analyse.py", "cam", path, "--data", "digits", "--out", out / "cam.png",
    ],
    "analyse.py kernels": lambda data, path, out: [
        "analyse.py", "kernels", path, "--data", "digits", "--out", out / "kernels.png",
    ],
    "evaluate_image.py": lambda data, path, out: ["evaluate_image.py", path, "--data", "digits"],
    "evaluate_image.py --weights": lambda data, path, out: [
        "evaluate_image.py", "--weights", path, "--model", "resnet8_cifar", "--data", "digits",
    ],
}  # fmt: skip


def give(name: str, data: Path, checkpoint: Path, out: Path) -> warm.Result:
    """Run a command on a checkpoint."""
    return warm.run(out / "output.log", *COMMANDS[name](data, checkpoint, out))
