"""The options of trainings and evaluations of video models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from fairseq_cgc.core import UserError
from fairseq_cgc.support.options import AT_LEAST_0, AT_LEAST_1, BELOW_1, Range, demand, setting
from fairseq_cgc.video import create_model
from fairseq_cgc.video.data.dataset import CROPS, Views
from fairseq_cgc.video.data.sampling import SAMPLINGS, create_sampling
from fairseq_cgc.video.registry import shift_distance_of
from fairseq_cgc.vision.training.evaluation import AVERAGES
from fairseq_cgc.vision.training.run_options import EvaluationOptions
from fairseq_cgc.vision.training.settings import TrainingSettings

GROUPS = ("uniform", "tsm")
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)


@dataclass(frozen=True, kw_only=True)
class VideoSettings(TrainingSettings):
    """Every field is an option of ``fairseq-cgc train-video``."""

    command = "train-video"
    noun = "videos"
    presets_file = Path(__file__).with_name("presets.yaml")
    fine_tuned = ("something_v1", "something_v1_16", "something_v1_p3d", "kinetics")
    earlier: ClassVar[Mapping[str, Any]] = {"shift_every": 1}  # whatever the backbone

    model: str = setting("tsm_cgc", "model, see fairseq-cgc table video")
    backbone: str = setting(
        "resnet50", "image network inside, a plain one of fairseq-cgc table image"
    )
    num_frames: int = setting(
        8,
        "frames in a clip",
        range_=Range("at least 1 and at most 1000", lambda value: 1 <= value <= 1000),
    )
    sampling: str = setting("segments", "how frames of a video are chosen", SAMPLINGS)
    template: str = setting(
        "img_{:05d}.jpg", "name of a frame's file, with the place of its number"
    )
    dropout: float = setting(
        0.5, "share of the features that is dropped before the classifier", range_=BELOW_1
    )
    clip_norm: float = setting(0.0, "largest norm of the gradient; 0: no limit", range_=AT_LEAST_0)
    shift_every: int = setting(
        0,
        "for tsm models: shift before every N-th block; 0: as in TSM's release",
        range_=AT_LEAST_0,
        metavar="N",
    )
    groups: str = setting(
        "uniform",
        "tsm: larger learning rates for classifier and biases, no weight decay for biases and "
        "normalisations",
        GROUPS,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        has_number = _numbers_frames(self.template)
        demand(self, "template", has_number, "a name with the number, as img_{:05d}.jpg")
        create_sampling(self.sampling, self.num_frames)

    def effective(self) -> dict[str, Any]:
        every = self.shift_every or shift_distance_of(self.model, self.backbone)
        return {**super().effective(), "shift_every": every}

    def create_model(
        self, num_classes: int, channels: int, *, weights: Path | None = None
    ) -> nn.Module:
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
        """As in :class:`TrainingSettings`; ``tsm`` is how TSM trains from ImageNet's weights.

        Normalisations and biases do not decay. Biases learn at twice the rate, the classifier's
        weights at five times, its biases at ten times the rate.
        """
        if self.groups == "uniform":
            return super().parameter_groups(model)
        head = set(model.get_submodule("fc").modules())
        head_weights: list[nn.Parameter] = []
        head_biases: list[nn.Parameter] = []
        weights: list[nn.Parameter] = []
        norms: list[nn.Parameter] = []
        biases: list[nn.Parameter] = []
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if isinstance(module, _NORMS):
                    norms.append(parameter)
                elif module in head:
                    (head_biases if name == "bias" else head_weights).append(parameter)
                else:
                    (biases if name == "bias" else weights).append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": weights},
            {"params": norms, "weight_decay": 0.0},
            {"params": biases, "weight_decay": 0.0, "lr_factor": 2.0},
            {"params": head_weights, "lr_factor": 5.0},
            {"params": head_biases, "weight_decay": 0.0, "lr_factor": 10.0},
        ]
        return [group for group in groups if group["params"]]

    @property
    def gradient_limit(self) -> float:
        return self.clip_norm or math.inf


#: --views: clips and crops.
_VIEWS = {1: Views(1, 1), 10: Views(10, 1), 30: Views(10, 3)}


@dataclass(frozen=True, kw_only=True)
class VideoEvaluationOptions(EvaluationOptions):
    """How to run an evaluation of videos."""

    batch_size: int = setting(16, "views in a batch", range_=AT_LEAST_1)
    views: int | None = setting(
        None,
        "views of each video: 1 is one clip, 10 are ten clips, 30 are ten clips with three crops "
        "each (1)",
        range_=Range("1, 10 or 30", lambda value: value in _VIEWS),
    )
    clips: int | None = setting(None, "clips of a video, along time (1)", range_=AT_LEAST_1)
    crops: int | None = setting(
        None, "crops of each clip, 1 or 3 (1)", range_=Range("1 or 3", lambda v: v in CROPS)
    )
    average: str | None = setting(
        None, "what is averaged over the views (logits; softmax for P3D)", AVERAGES
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.views is not None and (self.clips, self.crops) != (None, None):
            raise UserError("--views stands for --clips and --crops: give one or the others")

    @property
    def seen(self) -> Views:
        """What is seen of each video."""
        return Views(self.clips or 1, self.crops or 1) if self.views is None else _VIEWS[self.views]


def _numbers_frames(template: str) -> bool:
    try:
        return template.format(1) != template.format(2)
    except (LookupError, ValueError, AttributeError, TypeError):
        return False
