"""What decides the weights of a video model's training, with the paper's values as presets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from fairseq_cgc.support.options import AT_LEAST_0, AT_LEAST_1, BELOW_1, setting
from fairseq_cgc.video import create_model
from fairseq_cgc.video.data.sampling import SAMPLINGS, create_sampling
from fairseq_cgc.video.registry import shift_distance_of
from fairseq_cgc.vision.training.settings import TrainingSettings

GROUPS = ("uniform", "tsm")
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)


@dataclass(frozen=True, kw_only=True)
class VideoSettings(TrainingSettings):
    """Every field is an option of ``fairseq-cgc train-video``."""

    command = "train-video"
    noun = "videos"
    presets_file = Path(__file__).with_name("presets.yaml")
    earlier: ClassVar[Mapping[str, Any]] = {"shift_every": 1}  # whatever the backbone

    model: str = setting("tsm_cgc", "model, see fairseq-cgc table video")
    backbone: str = setting("resnet50", "resnet50, resnet101 or resnet{6n+2}_cifar")
    num_frames: int = setting(8, "frames in a clip", range_=AT_LEAST_1)
    sampling: str = setting("segments", "which frames of a video make a clip", SAMPLINGS)
    template: str = setting("img_{:05d}.jpg", "name of a frame's file, counted from 1")
    dropout: float = setting(0.5, "of features, before the classifier", range_=BELOW_1)
    clip_norm: float = setting(0.0, "largest norm of the gradient; 0: any", range_=AT_LEAST_0)
    shift_every: int = setting(
        0, "tsm shifts before every N-th block; 0: as TSM's release", range_=AT_LEAST_0
    )
    groups: str = setting("uniform", "tsm: other rates and decay for classifier, biases", GROUPS)

    def __post_init__(self) -> None:
        """Raises :class:`UserError` for a value that is not allowed, naming the option."""
        super().__post_init__()
        self._demand(
            "template", _numbers_frames(self.template), "a name with the number, as img_{:05d}.jpg"
        )
        create_sampling(self.sampling, self.num_frames)

    def effective(self) -> dict[str, Any]:
        """See :class:`TrainingSettings`."""
        every = self.shift_every or shift_distance_of(self.model, self.backbone)
        return {**super().effective(), "shift_every": every}

    def create_model(
        self, num_classes: int, channels: int, *, weights: Path | None = None
    ) -> nn.Module:
        """See :class:`TrainingSettings`."""
        return create_model(
            self.model,
            num_classes,
            num_frames=self.num_frames,
            in_channels=channels,
            backbone=self.backbone,
            dropout=self.dropout,
            shift_every=self.shift_every or None,
            weights=weights,
        )

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """See :class:`TrainingSettings`; ``tsm``: as the code of TSM, for training from ImageNet.

        Normalisations and biases do not decay. Biases learn at twice the rate, the classifier's
        weight at five times, its bias at ten times.
        """
        if self.groups == "uniform":
            return super().parameter_groups(model)
        head = model.get_submodule("fc")
        weights: list[nn.Parameter] = []
        norms: list[nn.Parameter] = []
        biases: list[nn.Parameter] = []
        for module in model.modules():
            if module is head:
                continue
            for name, parameter in module.named_parameters(recurse=False):
                if isinstance(module, _NORMS):
                    norms.append(parameter)
                else:
                    (biases if name == "bias" else weights).append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": weights},
            {"params": norms, "weight_decay": 0.0},
            {"params": biases, "weight_decay": 0.0, "lr_factor": 2.0},
            {"params": [head.weight], "lr_factor": 5.0},
            {"params": [head.bias], "weight_decay": 0.0, "lr_factor": 10.0},
        ]
        return [group for group in groups if group["params"]]

    @property
    def gradient_limit(self) -> float:
        """See :class:`TrainingSettings`."""
        return self.clip_norm or math.inf


def _numbers_frames(template: str) -> bool:
    try:
        return template.format(1) != template.format(2)
    except (LookupError, ValueError, AttributeError, TypeError):
        return False
