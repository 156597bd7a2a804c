"""What decides the weights of a training: for whatever is trained, and for image models."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self, get_type_hints

import yaml
from torch import nn

from fairseq_cgc.core import UserError
from fairseq_cgc.support.options import (
    ABOVE_0,
    AT_LEAST_0,
    AT_LEAST_1,
    BELOW_1,
    Option,
    check_values,
    demand,
    option_of,
    options_of,
    setting,
)
from fairseq_cgc.vision.registry import create_model
from fairseq_cgc.vision.resnet import ResNet

SCHEDULES = ("step", "cosine")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(ABC):
    """Every field is an option of ``command``; ``help`` tells what it means.

    Attributes:
        command: of ``fairseq-cgc`` that trains with them.
        noun: what it trains on, in the plural.
        presets_file: YAML, preset name to values.
        earlier: values of settings that earlier checkpoints do not name.
    """

    command: ClassVar[str]
    noun: ClassVar[str]
    presets_file: ClassVar[Path]
    earlier: ClassVar[Mapping[str, Any]] = {}

    model: str
    epochs: int = setting(100, "times that every training sample is seen", range_=AT_LEAST_1)
    batch_size: int = setting(256, "samples in an update, over all processes", range_=AT_LEAST_1)
    lr: float = setting(0.1, "learning rate", range_=ABOVE_0)
    momentum: float = setting(0.9, "of SGD", range_=AT_LEAST_0)
    weight_decay: float = setting(1e-4, "of all parameters", range_=AT_LEAST_0)
    schedule: str = setting("step", "of the learning rate", SCHEDULES)
    milestones: tuple[int, ...] = setting((), "epochs after which step lowers the rate")
    decay: float = setting(0.1, "factor by which step lowers it", range_=ABOVE_0)
    warmup_epochs: int = setting(0, "epochs of linear warm-up", range_=AT_LEAST_0)
    mixup: float = setting(0.0, "alpha of mixup's beta distribution; 0: none", range_=AT_LEAST_0)
    label_smoothing: float = setting(
        0.0, "share of the target that all classes divide", range_=BELOW_1
    )
    image_size: int = setting(224, "side of the crops of image files", range_=AT_LEAST_1)
    resize: int = setting(256, "shorter side before the central crop of image files")
    padding: int = setting(
        4, "black pixels around images in memory before a random crop", range_=AT_LEAST_0
    )
    flip: bool = setting(True, "mirror half of the training samples")
    precision: str = setting("float32", "of convolutions and products", PRECISIONS)
    accumulate: int = setting(
        1, "parts of a process's batch, one after the other: less memory", range_=AT_LEAST_1
    )
    sync_batch_norm: bool = setting(False, "batch statistics over all GPUs, gates included")
    channels_last: bool = setting(False, "memory layout with adjacent channels")
    seed: int = setting(1, "of initial values, order and augmentation", range_=AT_LEAST_0)

    def __post_init__(self) -> None:
        """Raises :class:`UserError` for a value that is not allowed, naming the option."""
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(value, float):
                self._demand(option.name, math.isfinite(value), "a finite number")
        check_values(self)
        self._demand("resize", self.resize >= self.image_size, "at least --image-size")
        rising = list(self.milestones) == sorted({m for m in self.milestones if m > 0})
        self._demand("milestones", rising, "rising and more than 0")
        steps = self.schedule == "step" or not self.milestones
        self._demand("milestones", steps, "left out with --schedule cosine")
        shorter = self.warmup_epochs < self.epochs
        self._demand("warmup_epochs", shorter, f"less than --epochs, which is {self.epochs}")

    @abstractmethod
    def create_model(
        self, num_classes: int, channels: int, *, weights: Path | None = None
    ) -> nn.Module:
        """A new model of the kind that is trained.

        Args:
            num_classes: how many outputs it has.
            channels: of the images.
            weights: a checkpoint to start from.

        Raises:
            UserError: for an unknown name or switch, or weights that do not fit.
        """

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Parameters with options of SGD; ``lr_factor`` multiplies the learning rate.

        The first group has no factor.
        """
        return [{"params": list(model.parameters())}]

    @property
    def gradient_limit(self) -> float:
        """The largest norm that a gradient keeps."""
        return math.inf

    def warnings(self) -> list[str]:
        """What is allowed, but hardly meant, a line each."""
        beyond = [str(m) for m in self.milestones if m >= self.epochs]
        if not beyond:
            return []
        return [
            f"--epochs is {self.epochs}, so --milestones {' '.join(beyond)} are never reached and "
            "do not lower the learning rate: give others, or --schedule cosine"
        ]

    _demand = demand

    def as_dict(self) -> dict[str, Any]:
        """Values that JSON and a checkpoint can hold."""
        return {**asdict(self), "milestones": list(self.milestones)}

    def effective(self) -> dict[str, Any]:
        """:meth:`as_dict` with what a value like 0, "as usual", comes to: for comparisons."""
        return self.as_dict()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`as_dict`.

        Raises:
            UserError: for an unknown name, or a value of the wrong type or size.
        """
        types = cls._types()
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

    @classmethod
    def presets(cls) -> dict[str, Self]:
        """Name to settings."""
        read = _read_presets(cls.presets_file)
        return {name: cls.from_dict(values) for name, values in read.items()}

    @classmethod
    def preset(cls, name: str, changes: Mapping[str, Any]) -> Self:
        """A preset with some fields changed.

        Cosine has no milestones: those of the preset are dropped where ``changes`` asks for it.

        Raises:
            UserError: if there is no such preset, or a changed value is not allowed.
        """
        presets = cls.presets()
        if name not in presets:
            raise UserError(f"--preset is {name!r}, but must be one of {', '.join(presets)}")
        changes = dict(changes)
        if changes.get("schedule") == "cosine":
            changes.setdefault("milestones", ())
        return replace(presets[name], **changes)

    @classmethod
    def option_fields(cls) -> list[Option]:
        """The options, with the presets' values in their help texts."""
        return options_of(cls, cls._values)

    @classmethod
    def _types(cls) -> dict[str, Any]:
        hints = get_type_hints(cls)
        return {f.name: hints[f.name] for f in fields(cls)}

    @classmethod
    def _values(cls, name: str) -> str:
        """Those of one field in the presets, for a help text."""
        values: dict[str, list[str]] = {}
        for preset_name, settings in cls.presets().items():
            value = getattr(settings, name)
            shown = " ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
            values.setdefault(shown, []).append(preset_name)
        if len(values) == 1:
            return next(iter(values))
        return "; ".join(f"{', '.join(names)}: {value}" for value, names in values.items())


@cache
def _read_presets(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@dataclass(frozen=True, kw_only=True)
class Settings(TrainingSettings):
    """Every field is an option of ``fairseq-cgc train-image``."""

    command = "train-image"
    noun = "images"
    presets_file = Path(__file__).with_name("presets.yaml")

    model: str = setting("resnet50_cgc", "model, see fairseq-cgc table image")
    cgc: Mapping[str, Any] = field(default_factory=dict)
    """Switches of the gates, as ``fairseq_cgc.vision.create_model`` takes them."""

    def create_model(
        self, num_classes: int, channels: int, *, weights: Path | None = None
    ) -> ResNet:
        """See :class:`TrainingSettings`."""
        return create_model(
            self.model,
            num_classes,
            in_channels=channels,
            cgc=self.cgc or None,
            weights=weights,
        )

    def as_dict(self) -> dict[str, Any]:
        """See :class:`TrainingSettings`."""
        return {**super().as_dict(), "cgc": dict(self.cgc)}
