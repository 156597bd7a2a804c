"""What decides the weights of an image model's training, with the paper's values as presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairseq_cgc.support.options import setting
from fairseq_cgc.vision.registry import create_model
from fairseq_cgc.vision.resnet import ResNet
from fairseq_cgc.vision.training.training_settings import TrainingSettings


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
