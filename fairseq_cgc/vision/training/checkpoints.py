"""Checkpoints of a training: tensors and plain values, written whole, read without running code."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fairseq_cgc.core import UserError
from fairseq_cgc.support.files import read_safely, save_tensors
from fairseq_cgc.vision.training.settings import Settings, TrainingSettings

LAST = "last.pt"
BEST = "best.pt"


@dataclass
class Progress:
    """Where a training is.

    Attributes:
        epoch: how many are complete.
        update: how many updates of the next one are made.
        loss, correct, samples: sums over those updates.
        seconds: spent in updates of that epoch.
        best_epoch: with the highest top-1 accuracy on the validation samples, counted from 1;
            0 before the first one.
        best_top1: that accuracy, in percent.
    """

    epoch: int = 0
    update: int = 0
    loss: float = 0.0
    correct: float = 0.0
    samples: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_top1: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """All that a training needs to go on, and an evaluation to begin.

    Attributes:
        settings: of the training.
        classes: names, in the order of the model's outputs.
        channels: of the images.
        model, optimizer, scaler: their ``state_dict``.
        progress: of the training.
    """

    settings: TrainingSettings
    classes: tuple[str, ...]
    channels: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    progress: Progress

    def save(self, path: Path) -> None:
        """Write it, all or nothing.

        Raises:
            UserError: if it cannot be written.
        """
        content = {
            "script": _script(self.settings),
            "settings": self.settings.as_dict(),
            "classes": list(self.classes),
            "channels": self.channels,
            "model": self.model,
            "optimizer": self.optimizer,
            "scaler": self.scaler,
            "progress": asdict(self.progress),
        }
        save_tensors(path, content)

    def create_model(self) -> nn.Module:
        """The trained model, on the CPU and in training mode.

        Raises:
            UserError: if the weights do not fit the settings.
        """
        model = self.settings.create_model(len(self.classes), self.channels)
        try:
            model.load_state_dict(self.model)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(
                f"the checkpoint does not fit {self.settings.model}: {reason}"
            ) from None
        return model


def _script(kind: TrainingSettings | type[TrainingSettings]) -> str:
    """What a file says of the training: the script that is a command today."""
    return f"scripts/{kind.command.replace('-', '_')}.py"


def load_checkpoint(path: Path, kind: type[TrainingSettings] = Settings) -> Checkpoint:
    """Read what :meth:`Checkpoint.save` wrote.

    Args:
        path: of the file.
        kind: of the training.

    Raises:
        UserError: if the file is missing, damaged, asks to run code, or is another kind of
            checkpoint.
    """
    content = read_safely(path)
    try:
        # The first checkpoints were all of images, and counted them under that name.
        if content.get("script", _script(Settings)) != _script(kind):
            raise KeyError("script")
        progress = dict(content["progress"])
        progress.setdefault("samples", progress.pop("images", 0))
        return Checkpoint(
            settings=kind.from_dict({**kind.earlier, **content["settings"]}),
            classes=tuple(content["classes"]),
            channels=int(content["channels"]),
            model=content["model"],
            optimizer=content["optimizer"],
            scaler=content["scaler"],
            progress=Progress(**progress),
        )
    except (KeyError, TypeError, AttributeError):
        raise UserError(
            f"{path} is not a checkpoint of fairseq-cgc {kind.command} (a file of weights "
            "alone is for --weights)"
        ) from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
