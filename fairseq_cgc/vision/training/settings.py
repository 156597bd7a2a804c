"""The settings of a training: everything that decides the weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self, get_origin, get_type_hints

import yaml
from torch import nn

from fairseq_cgc.core import UserError
from fairseq_cgc.support.options import (
    ABOVE_0,
    AT_LEAST_0,
    AT_LEAST_1,
    BELOW_1,
    between,
    check_values,
    demand,
    option_of,
    setting,
)
from fairseq_cgc.vision.data.transforms import Crops
from fairseq_cgc.vision.registry import create_model

PRECISIONS = ("float32", "bfloat16", "float16")
SCHEDULES = ("step", "cosine")
PRECISION_HELP = (
    "precision of convolutions and matrix products; bfloat16 is fastest where the CPU or GPU has it"
)
LAYOUT_HELP = "memory layout with adjacent channels: faster on most CPUs and GPUs"
SIDE = between(1, 10_000)  # pixels


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(ABC):
    """Everything that decides the weights; every field is an option of ``command``.

    Attributes:
        command: of ``fairseq-cgc`` that trains with them.
        noun: what it trains on, in the plural.
        presets_file: YAML, preset name to values.
        earlier: values of settings that earlier checkpoints do not have.
        fine_tuned: the presets whose models start from the weights of another.

    Raises:
        UserError: for a value that is not allowed, naming the option.
    """

    command: ClassVar[str]
    noun: ClassVar[str]
    presets_file: ClassVar[Path]
    earlier: ClassVar[Mapping[str, Any]] = {}
    fine_tuned: ClassVar[Collection[str]] = ()

    model: str
    epochs: int = setting(100, "passes over the training samples", range_=AT_LEAST_1)
    batch_size: int = setting(256, "samples in an update, over all processes", range_=AT_LEAST_1)
    lr: float = setting(0.1, "learning rate", range_=ABOVE_0)
    momentum: float = setting(0.9, "momentum of SGD", range_=BELOW_1)
    weight_decay: float = setting(1e-4, "weight decay", range_=AT_LEAST_0)
    schedule: str = setting("step", "how the learning rate falls", SCHEDULES)
    milestones: tuple[int, ...] = setting(
        (), "epochs after which step lowers the learning rate", metavar="EPOCH"
    )
    decay: float = setting(0.1, "factor by which step multiplies the learning rate", range_=ABOVE_0)
    warmup_epochs: int = setting(0, "epochs of linear warm-up", range_=AT_LEAST_0)
    mixup: float = setting(  # of much larger ones random.betavariate never draws a number
        0.0, "alpha of mixup's beta distribution; 0: no mixup", range_=between(0, 1000)
    )
    label_smoothing: float = setting(
        0.0, "share of the target that is spread over all classes", range_=BELOW_1
    )
    image_size: int = setting(224, "side of the crops of image files, in pixels", range_=SIDE)
    resize: int = setting(
        256,
        "pixels of the shorter side of image files before their central crop",
        range_=SIDE,
    )
    padding: int = setting(
        4,
        "black pixels added around images in memory before a random crop",
        range_=between(0, 1000),
    )
    flip: bool = setting(True, "mirror half of the training samples")
    precision: str = setting("float32", PRECISION_HELP, PRECISIONS)
    accumulate: int = setting(
        1,
        "number of parts in which a process computes its batch, to save memory",
        range_=AT_LEAST_1,
    )
    sync_batch_norm: bool = setting(False, "compute batch statistics over all GPUs, gates included")
    channels_last: bool = setting(False, LAYOUT_HELP)
    seed: int = setting(
        1, "seed of the initial values, the order and the augmentation", range_=AT_LEAST_0
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(value, float):
                demand(self, option.name, math.isfinite(value), "a finite number")
        check_values(self)
        demand(self, "resize", self.resize >= self.image_size, "at least --image-size")
        are_whole = all(type(m) is int and m > 0 for m in self.milestones)
        rising = are_whole and list(self.milestones) == sorted({*self.milestones})
        demand(self, "milestones", rising, "rising whole numbers from 1 on")
        has_steps = self.schedule == "step" or not self.milestones
        demand(self, "milestones", has_steps, "left out with --schedule cosine")
        is_shorter = self.warmup_epochs < self.epochs
        demand(self, "warmup_epochs", is_shorter, f"less than --epochs, which is {self.epochs}")

    @abstractmethod
    def create_model(
        self, num_classes: int, channels: int, *, weights: Path | None = None
    ) -> nn.Module:
        """A new model.

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
        """The largest norm of a gradient; larger ones are scaled down to it."""
        return math.inf

    @property
    def crops(self) -> Crops:
        """How the samples are cut."""
        return Crops(self.image_size, self.resize, self.padding, self.flip)

    def warnings(self) -> list[str]:
        """Doubtful, though allowed, combinations of values, a line each."""
        if self.schedule == "step" and not self.milestones:
            return [
                "--schedule is step without --milestones, so the learning rate never falls: give "
                "some, or --schedule cosine"
            ]
        beyond = [str(m) for m in self.milestones if m >= self.epochs]
        if not beyond:
            return []
        return [
            f"--epochs is {self.epochs}, so --milestones {' '.join(beyond)} are never reached and "
            "do not lower the learning rate: give others, or --schedule cosine"
        ]

    def as_dict(self) -> dict[str, Any]:
        """Values that JSON and a checkpoint can hold."""
        return {**asdict(self), "milestones": list(self.milestones)}

    def effective(self) -> dict[str, Any]:
        """:meth:`as_dict` with defaults that depend on others filled in, for comparisons."""
        return self.as_dict()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`as_dict`.

        Raises:
            UserError: for an unknown name, or a value of the wrong type or size.
        """
        hints = get_type_hints(cls)
        types = {f.name: hints[f.name] for f in fields(cls)}
        taken: dict[str, Any] = {}
        for name, value in values.items():
            if name not in types:
                raise UserError(f"unknown setting {name!r}; allowed are {', '.join(types)}")
            if isinstance(value, list):
                value = tuple(value)
            if types[name] is float and type(value) is int:
                value = float(value)
            expected = get_origin(types[name]) or types[name]
            is_plain = expected in (str, int, float, bool)
            if type(value) is not expected if is_plain else not isinstance(value, expected):
                raise UserError(
                    f"{option_of(name)} is {value!r}, but must be of type {expected.__name__}"
                )
            taken[name] = value
        return cls(**taken)

    @classmethod
    def presets(cls) -> dict[str, Self]:
        """Name to settings."""
        read = _read_yaml(cls.presets_file)
        return {name: cls.from_dict(values) for name, values in read.items()}

    @classmethod
    def preset(cls, name: str, changes: Mapping[str, Any]) -> Self:
        """A preset with some fields changed.

        A change to the cosine schedule also drops the preset's milestones.

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
    def preset_values(cls, name: str) -> str:
        """The presets' values of one field, for its help text."""
        values: dict[str, list[str]] = {}
        for preset_name, settings in cls.presets().items():
            value = getattr(settings, name)
            shown = " ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
            values.setdefault(shown, []).append(preset_name)
        if len(values) == 1:
            return next(iter(values))
        return "; ".join(f"{', '.join(names)}: {value}" for value, names in values.items())


@cache
def _read_yaml(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@dataclass(frozen=True, kw_only=True)
class Settings(TrainingSettings):
    """Every field is an option of ``fairseq-cgc train-image``."""

    command = "train-image"
    noun = "images"
    presets_file = Path(__file__).with_name("presets.yaml")
    fine_tuned = ("gc_finetune",)

    model: str = setting("resnet50_cgc", "model, see fairseq-cgc table image")
    cgc: Mapping[str, Any] = field(default_factory=dict)
    """Switches of the gates, as ``fairseq_cgc.vision.create_model`` takes them."""

    def create_model(
        self, num_classes: int, channels: int, *, weights: Path | None = None
    ) -> nn.Module:
        cgc = self.cgc or None
        return create_model(self.model, num_classes, in_channels=channels, cgc=cgc, weights=weights)

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "cgc": dict(self.cgc)}
