"""Video models by name: a ResNet for clips and what is added to it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fairseq_cgc.core import UserError
from fairseq_cgc.video.layers import (
    ClipGatedConv2d,
    TemporalConv,
    frames_in_blocks,
    non_local_blocks,
    shift_distance,
    temporal_layers,
    temporal_shifts,
)
from fairseq_cgc.vision import registry as images
from fairseq_cgc.vision.resnet import (
    STEM,
    Block,
    BlockPart,
    Convolution,
    ResNet,
    Shape,
    no_part,
)
from fairseq_cgc.vision.weights import load_weights


class VideoResNet(ResNet):
    """A ResNet that sees the frames of all clips as one batch of images.

    The parts that look beyond a frame (shifts, temporal convolutions, non-local blocks and gates)
    are in the blocks and know how many frames a clip has.

    Args:
        block, depths, others: as for :class:`ResNet`.
        num_frames: in a clip.
        dropout: share of the features that the classifier does not see in training.
        pools_clip: average the frames' features before dropout and classifier (P3D-A); otherwise
            the frames' logits are averaged (TSN's consensus). Without dropout both are the same.
    """

    def __init__(
        self,
        block: type[Block],
        depths: Sequence[int],
        *,
        num_frames: int,
        dropout: float,
        pools_clip: bool,
        **others: Any,
    ) -> None:
        super().__init__(block, depths, **others)
        self.num_frames = num_frames
        self.pools_clip = pools_clip
        self.dropout = nn.Dropout(dropout)

    def forward(self, clips: Tensor) -> Tensor:
        """Classify clips.

        Args:
            clips: B x num_frames x in_channels x H x W.

        Returns:
            B x num_classes logits.

        Raises:
            UserError: if clips have another shape or are not floating point.
        """
        frames, channels = self.num_frames, self.conv1.in_channels
        if clips.dim() != 5 or clips.shape[1:3] != (frames, channels):
            raise UserError(
                f"clips must be B x {frames} x {channels} x H x W, but are {tuple(clips.shape)}"
            )
        if not clips.is_floating_point():
            raise UserError(f"clips must be floating point, but are {clips.dtype}")
        features = self.features(clips.flatten(0, 1)).unflatten(0, (len(clips), -1))
        if self.pools_clip:
            features = features.mean(1, keepdim=True)
        return self.fc(self.dropout(features)).mean(1)


@dataclass(frozen=True)
class Architecture:
    """What a name stands for.

    Attributes:
        family: ``tsn``, ``tsm`` or ``p3d``.
        non_local: whether there are non-local blocks.
        gates_time: whether the temporal convolutions in the blocks are gated (CGC 1-D).
        gates_space: whether the spatial convolutions are gated by the whole clip (CGC 3-D).
    """

    family: str
    non_local: bool = False
    gates_time: bool = False
    gates_space: bool = False


_CGC = {"": (False, False), "_cgc": (False, True)}
_CGC_P3D = {
    "": (False, False),
    "_cgc1d": (True, False),
    "_cgc3d": (False, True),
    "_cgc1d3d": (True, True),
}
_ARCHITECTURES = {
    f"{family}{non_local}{suffix}": Architecture(family, bool(non_local), *gates)
    for family, suffixes in (("tsn", _CGC), ("tsm", _CGC), ("p3d", _CGC_P3D))
    for non_local in ("", "_nonlocal")
    for suffix, gates in suffixes.items()
}


def list_models() -> list[str]:
    """The names :func:`create_model` takes."""
    return list(_ARCHITECTURES)


def architecture(name: str) -> Architecture:
    """What ``name`` stands for.

    Raises:
        UserError: if there is no such model.
    """
    if name not in _ARCHITECTURES:
        raise UserError(f"there is no model {name!r}; allowed are {', '.join(list_models())}")
    return _ARCHITECTURES[name]


def create_model(
    name: str,
    num_classes: int = 174,
    *,
    num_frames: int = 8,
    in_channels: int = 3,
    backbone: str = "resnet50",
    dropout: float = 0.5,
    shift_every: int | None = None,
    weights: str | Path | None = None,
) -> VideoResNet:
    """Build a model: clips, B x T x C x H x W, to B x num_classes logits (section 4.3).

    ``tsn`` averages the logits of the frames, ``tsm`` shifts channels between frames, ``p3d`` has
    temporal convolutions (appendix A.4). ``_nonlocal`` adds five non-local blocks. ``_cgc`` and
    ``_cgc3d`` gate every spatial convolution of more than 1 x 1 by the whole clip, ``_cgc1d`` the
    temporal convolutions "in every P3D-A block" (not the stem's), ``_cgc1d3d`` both.

    Weights of images fit all models. Gates, and a classifier for another number of classes, then
    start at random, and non-local blocks as the identity. Temporal convolutions start by passing
    on the frame under their middle, so that the layers behind them first see the features from
    which they have learnt. Without weights, temporal convolutions are Kaiming-initialised.

    Args:
        name: one of :func:`list_models`.
        num_classes: 174 by default, those of Something-Something (v1).
        num_frames: T. It changes the parameters of gates for each frame only (``tsn`` and ``tsm``
            with CGC).
        in_channels: channels of the frames.
        backbone: a plain ResNet for images, such as ``resnet50``, or ``resnet{6n+2}_cifar`` for
            small frames.
        dropout: before the classifier; the paper's is 0.5 for TSN and TSM, 0.8 for P3D-A.
        shift_every: ``tsm`` shifts before every so many blocks of each stage; by default as TSM's
            release, 2 for ``resnet101`` and 1 for ``resnet50``.
        weights: a checkpoint to start from, of the plain backbone or of this model.

    Raises:
        UserError: for an unknown name or backbone, a number out of range, or a checkpoint that
            does not fit.
    """
    design, shape = architecture(name), _backbone(backbone)
    for option, value in (
        ("num_classes", num_classes),
        ("num_frames", num_frames),
        ("in_channels", in_channels),
        ("shift_every", 1 if shift_every is None else shift_every),
    ):
        if value < 1:
            raise UserError(f"{option} is {value}, but must be at least 1")
    if not 0 <= dropout < 1:
        raise UserError(f"dropout is {dropout}, but must be at least 0 and below 1")
    is_p3d = design.family == "p3d"
    frames = frames_in_blocks(num_frames, shape) if is_p3d else num_frames

    def convolution(stage: str) -> Convolution:
        if not design.gates_space:
            return nn.Conv2d
        seen = num_frames if stage == STEM else frames
        return partial(ClipGatedConv2d, frames=seen, per_frame=not is_p3d)

    shift: BlockPart = no_part
    temporal: BlockPart = no_part
    if design.family == "tsm":
        shift = temporal_shifts(num_frames, shift_every or shift_distance(shape))
    if is_p3d:
        temporal = temporal_layers(num_frames, shape, gated=design.gates_time)
    model = VideoResNet(
        **shape._asdict(),
        num_classes=num_classes,
        num_frames=num_frames,
        dropout=dropout,
        pools_clip=is_p3d,
        in_channels=in_channels,
        convolution=convolution,
        shift=shift,
        temporal=temporal,
        after=non_local_blocks(frames) if design.non_local else no_part,
    )
    if weights is not None:
        for module in model.modules():
            if isinstance(module, TemporalConv):
                module.reset_to_identity()
        load_weights(model, weights, other_classes=True)
    return model


def shift_distance_of(name: str, backbone: str) -> int:
    """The default of ``shift_every``; 1 where nothing is shifted.

    Raises:
        UserError: for an unknown name or backbone.
    """
    return shift_distance(_backbone(backbone)) if architecture(name).family == "tsm" else 1


def _backbone(name: str) -> Shape:
    with contextlib.suppress(UserError):  # which would name image models of all kinds
        shape = images.architecture(name).backbone
        if shape is not None and not name.endswith(images.SUFFIX):
            return shape
    known = ", ".join(images.list_backbones())
    raise UserError(f"backbone is {name!r}, but must be {known} or another resnet{{6n+2}}_cifar")
