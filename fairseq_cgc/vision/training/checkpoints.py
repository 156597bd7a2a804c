"""What a training leaves in its folder: checkpoints, and the record of its settings.

Checkpoints hold tensors and plain values, are written whole, and are read without running code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from fairseq_cgc.core import UserError
from fairseq_cgc.support.checkpoints import read_safely, save_tensors
from fairseq_cgc.support.files import write_json
from fairseq_cgc.support.settings_record import demand_record, differences, read_record, refusal
from fairseq_cgc.vision.training.settings import Settings, TrainingSettings

LAST = "last.pt"
BEST = "best.pt"
RECORD = "settings.json"


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        epoch: complete epochs.
        update: updates made in the next epoch.
        loss, correct, samples: sums over those updates.
        seconds: spent in those updates.
        best_epoch: the epoch, counted from 1, with the highest top-1 accuracy on the validation
            samples; 0 before the first one.
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
    """All that is needed to resume a training or to evaluate its model.

    ``classes`` are names in the order of the model's outputs, ``channels`` those of the images;
    ``model``, ``optimizer`` and ``scaler`` are state dicts.
    """

    settings: TrainingSettings
    classes: tuple[str, ...]
    channels: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    progress: Progress

    def save(self, path: Path) -> None:
        """Write it, all or nothing; raises :class:`UserError` if it cannot be written."""
        content = vars(self) | {
            "script": _script(self.settings),
            "settings": self.settings.as_dict(),
            "classes": list(self.classes),
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
    """The kind of training as files name it: by the script that the command once was."""
    return f"scripts/{kind.command.replace('-', '_')}.py"


def load_checkpoint(path: Path, *kinds: type[TrainingSettings]) -> Checkpoint:
    """Read what :meth:`Checkpoint.save` wrote in a training of one of some kinds (of images).

    Raises:
        UserError: if the file is missing, damaged, asks to run code, or is another kind of
            checkpoint.
    """
    kinds = kinds or (Settings,)
    content = read_safely(path)
    try:
        # The first checkpoints were all of images: they name no script and count "images".
        kind = {_script(kind): kind for kind in kinds}[content.get("script", _script(Settings))]
        progress = dict(content["progress"])
        progress.setdefault("samples", progress.pop("images", 0))
        values = {
            **{part.name: content[part.name] for part in fields(Checkpoint)},
            "settings": kind.from_dict({**kind.earlier, **content["settings"]}),
            "classes": tuple(content["classes"]),
            "channels": int(content["channels"]),
            "progress": Progress(**progress),
        }
        return Checkpoint(**values)
    except (KeyError, TypeError, AttributeError):
        commands = " or ".join(kind.command for kind in kinds)
        raise UserError(
            f"{path} is not a checkpoint of fairseq-cgc {commands} (a file of weights alone is for "
            "--weights)"
        ) from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def keep_record(
    folder: Path, record: Mapping[str, Any], earlier: Mapping[str, Any] | None = None
) -> None:
    """Record the settings of a training in ``folder``; refuse to resume it with other ones.

    An earlier record without checkpoints is replaced, as there is nothing to resume.

    Args:
        folder: of the training; it must exist.
        record: JSON values.
        earlier: values that earlier records do not have.

    Raises:
        UserError: naming the first value that differs, if the folder has another training.
    """
    path = folder / RECORD
    if not any(folder.glob("*.pt")):
        write_json(path, record)
        return
    demand_record(path, "another --out")
    found = {**(earlier or {}), **read_record(path)}
    now = json.loads(json.dumps(record))  # in which a tuple is a list
    for name in differences(found, now):
        values = (_shorten(found.get(name)), _shorten(now.get(name)))
        raise refusal(folder, f"trained with {name}", *values, instead="another --out")


def _shorten(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}..."
