"""A line of JSON for every epoch, and TensorBoard's curves."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from fairseq_cgc.core import UserError
from fairseq_cgc.support.files import new_file

LOG = "train.jsonl"


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The epochs of a training, in order.

    Raises:
        UserError: if there is no log, or it is damaged.
    """
    path = folder / LOG
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


class Log:
    """Writes ``train.jsonl`` and, with ``tensorboard``, curves.

    Args:
        folder: of the training.
        epochs: complete ones. Lines of later epochs are removed: they are from a run that was
            killed before it saved its checkpoint.
        tensorboard: whether to write curves to ``tensorboard/``.

    Raises:
        UserError: if TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path, *, epochs: int, tensorboard: bool) -> None:
        self.path = folder / LOG
        self.board = _writer(folder / "tensorboard", epochs) if tensorboard else None
        if self.path.exists():
            lines = self.path.read_bytes().split(b"\n")[:epochs]
            with new_file(self.path) as partial:
                partial.write_bytes(b"".join(line + b"\n" for line in lines))

    def write(self, line: dict[str, Any]) -> None:
        """Add a line with the number of its epoch under ``epoch``."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        if self.board is not None:
            for name, value in line.items():
                self.board.add_scalar(name, value, line["epoch"])
            self.board.flush()

    def close(self) -> None:
        """Wait for TensorBoard's thread to write its files."""
        if self.board is not None:
            self.board.close()


def _writer(folder: Path, epochs: int) -> Any:
    for module in ("torch.utils.tensorboard", "tensorboardX"):
        try:
            writer = importlib.import_module(module).SummaryWriter
        except ImportError:
            continue
        return writer(str(folder), purge_step=epochs + 1 if epochs else None)
    raise UserError("--tensorboard needs the package tensorboard: pip install tensorboard")
