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
    "fairseq-cgc average": lambda data, path, out: [
        "fairseq-cgc average", path, "--output", out / "average.pt",
    ],
    "fairseq-cgc evaluate": lambda data, path, out: [
        "fairseq-cgc evaluate", path, "--data", data, "--cpu", "--output", out / "scores",
    ],
    "fairseq-cgc translate": lambda data, path, out: [
        "fairseq-cgc translate", path, "--data", data, "--cpu", "--input", data / "raw" / "test.de",
    ],
    "fairseq-cgc analyse gates": lambda data, path, out: [
        "fairseq-cgc analyse", "gates", path, "--data", data, "--out", out / "gates.png",
    ],
    "fairseq-cgc analyse cam": lambda data, path, out: [
        "fairseq-cgc analyse", "cam", path, "--data", "digits", "--out", out / "cam.png",
    ],
    "fairseq-cgc analyse kernels": lambda data, path, out: [
        "fairseq-cgc analyse", "kernels", path, "--data", "digits", "--out", out / "kernels.png",
    ],
    "fairseq-cgc evaluate-image": lambda data, path, out: [
        "fairseq-cgc evaluate-image", path, "--data", "digits",
    ],
    "fairseq-cgc evaluate-image --weights": lambda data, path, out: [
        "fairseq-cgc evaluate-image", "--weights", path, "--model", "resnet8_cifar",
        "--data", "digits",
    ],
}  # fmt: skip


def give(name: str, data: Path, checkpoint: Path, out: Path) -> warm.Result:
    """Run a command on a checkpoint."""
    return warm.run(out / "output.log", *COMMANDS[name](data, checkpoint, out))
