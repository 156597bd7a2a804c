"""What decides the weights of a training, with the paper's values as presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from fairseq_cgc.core import UserError

PRESETS = Path(__file__).with_name("presets.yaml")
SCHEDULES = ("step", "cosine")
PRECISIONS = ("float32", "bfloat16", "float16")


def _setting(default: Any, help_: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"help": help_, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every field is an option of ``scripts/train_image.py``; ``help`` tells what it means."""

    model: str = _setting("resnet50_cgc", "model, see python -m fairseq_cgc.vision")
    epochs: int = _setting(100, "times that every image is seen")
    batch_size: int = _setting(256, "images in an update, over all processes")
    lr: float = _setting(0.1, "learning rate")
    momentum: float = _setting(0.9, "of SGD")
    weight_decay: float = _setting(1e-4, "of all parameters")
    schedule: str = _setting("step", "of the learning rate", SCHEDULES)
    milestones: tuple[int, ...] = _setting((), "epochs after which step lowers the rate")
    decay: float = _setting(0.1, "factor by which step lowers it")
    warmup_epochs: int = _setting(0, "epochs of linear warm-up")
    mixup: float = _setting(0.0, "alpha of mixup's beta distribution; 0: none")
    label_smoothing: float = _setting(0.0, "share of the target that all classes divide")
    image_size: int = _setting(224, "side of the crops of image folders")
    resize: int = _setting(256, "shorter side before the central crop of image folders")
    padding: int = _setting(4, "black pixels around CIFAR-10 and digits before a random crop")
    flip: bool = _setting(True, "mirror half of the training images")
    precision: str = _setting("float32", "of convolutions and products", PRECISIONS)
    accumulate: int = _setting(1, "parts of a process's batch, one after the other: less memory")
    sync_batch_norm: bool = _setting(False, "batch statistics over all GPUs, gates included")
    channels_last: bool = _setting(False, "memory layout with adjacent channels")
    seed: int = _setting(1, "of initial values, order and augmentation")
    cgc: Mapping[str, Any] = field(default_factory=dict)
    """Switches of the gates, as ``fairseq_cgc.vision.create_model`` takes them."""

    def __post_init__(self) -> None:
        """Raises :class:`UserError` for a value that is not allowed, naming the option."""
        for name in ("epochs", "batch_size", "image_size", "accumulate"):
            self._demand(name, getattr(self, name) >= 1, "at least 1")
        for name in ("momentum", "weight_decay", "mixup", "warmup_epochs", "padding", "seed"):
            self._demand(name, getattr(self, name) >= 0, "at least 0")
        for name in ("lr", "decay"):
            self._demand(name, getattr(self, name) > 0, "more than 0")
        self._demand("label_smoothing", 0 <= self.label_smoothing < 1, "from 0 to below 1")
        self._demand("schedule", self.schedule in SCHEDULES, " or ".join(SCHEDULES))
        self._demand("precision", self.precision in PRECISIONS, " or ".join(PRECISIONS))
        self._demand("resize", self.resize >= self.image_size, "at least --image-size")
        rising = list(self.milestones) == sorted({m for m in self.milestones if m > 0})
        self._demand("milestones", rising, "rising and more than 0")
        steps = self.schedule == "step" or not self.milestones
        self._demand("milestones", steps, "left out with --schedule cosine")
        shorter = self.warmup_epochs < self.epochs
        self._demand("warmup_epochs", shorter, f"less than --epochs, which is {self.epochs}")

    def _demand(self, name: str, fulfilled: bool, allowed: str) -> None:
        if not fulfilled:
            value = getattr(self, name)
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            raise UserError(f"{option_of(name)} is {shown}, but must be {allowed}")

    def as_dict(self) -> dict[str, Any]:
        """Values that JSON and a checkpoint can hold."""
        return {**asdict(self), "milestones": list(self.milestones), "cgc": dict(self.cgc)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """The inverse of :meth:`as_dict`.

        Raises:
            UserError: for an unknown name, or a value of the wrong type or size.
        """
        types = get_type_hints(cls)
        taken: dict[str, Any] = {}
        for name, value in values.items():
            if name not in types:
                raise UserError(f"unknown setting {name!r}; allowed are {', '.join(types)}")
            if isinstance(value, list):
                value = tuple(value)
            if types[name] is float and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            plain = types[name] in (str, int, float, bool)
            if plain and type(value) is not types[name]:
                raise UserError(
                    f"{option_of(name)} is {value!r}, but must be of type {types[name].__name__}"
                )
            taken[name] = value
        return cls(**taken)


def option_of(name: str) -> str:
    """The command line's option for a field."""
    return f"--{name.replace('_', '-')}"


@cache
def presets() -> dict[str, Settings]:
    """Name to settings."""
    read = yaml.safe_load(PRESETS.read_text(encoding="utf-8"))
    return {name: Settings.from_dict(values) for name, values in read.items()}


def preset(name: str, changes: Mapping[str, Any]) -> Settings:
    """A preset with some fields changed.

    Cosine has no milestones: those of the preset are dropped where ``changes`` asks for it.

    Raises:
        UserError: if there is no such preset, or a changed value is not allowed.
    """
    if name not in presets():
        raise UserError(f"--preset is {name!r}, but must be one of {', '.join(presets())}")
    changes = dict(changes)
    if changes.get("schedule") == "cosine":
        changes.setdefault("milestones", ())
    return replace(presets()[name], **changes)


def defaults(name: str) -> str:
    """The values of one field in the presets, for a help text."""
    values: dict[str, list[str]] = {}
    for preset_name, settings in presets().items():
        value = getattr(settings, name)
        shown = " ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
        values.setdefault(shown, []).append(preset_name)
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{', '.join(names)}: {value}" for value, names in values.items())


def option_fields() -> list[tuple[str, Any, str, tuple[str, ...]]]:
    """Name, type, help text with defaults, and choices of the fields with an option."""
    types = get_type_hints(Settings)
    return [
        (f.name, types[f.name], f"{f.metadata['help']} ({defaults(f.name)})", f.metadata["choices"])
        for f in fields(Settings)
        if "help" in f.metadata
    ]
