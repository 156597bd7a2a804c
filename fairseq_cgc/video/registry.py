"""Video models by name: a ResNet for clips and what is put into it."""

from __future__ import annotations

import contextlib
import re
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
from fairseq_cgc.vision.resnet import STEM, BasicBlock, Bottleneck, Convolution, ResNet, no_part
from fairseq_cgc.vision.weights import load_weights


class VideoResNet(ResNet):
    """A ResNet that sees the frames of all clips as one batch of images.

    What looks beyond its frame is a part of the blocks and knows how many frames a clip has: a
    shift, temporal convolutions, non-local blocks, gates.

    Args:
        block, depths, others: as :class:`ResNet`'s.
        num_frames: in a clip.
        dropout: share of the features that the classifier does not see while training.
        pools_clip: whether the frames' features are averaged before dropout and classifier
            (P3D-A), and not the frames' logits behind it (the segments' consensus of TSN).
            Without dropout that is the same.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
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
        gates_space: whether the spatial convolutions are, from the whole clip (CGC 3-D).
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

    ``tsn`` averages the logits of the frames, ``tsm`` shifts channels between them, ``p3d`` has
    temporal convolutions (appendix A.4). ``_nonlocal`` adds five non-local blocks. ``_cgc`` and
    ``_cgc3d`` gate every spatial convolution of more than 1 x 1 from the whole clip, ``_cgc1d``
    the temporal convolutions "in every P3D-A block" (not the stem's), ``_cgc1d3d`` both.

    Image weights fit all of them. What they lack starts anew: gates at random; non-local blocks
    as the identity; temporal convolutions handing on the frame under their middle, so that the
    layers behind them see at first, but for the scale of the new normalisation, the features they
    have learnt from and no random mixture of them; a classifier of another number of classes at
    random. Without weights temporal convolutions are Kaiming-initialised, as all others are.

    Args:
        name: one of :func:`list_models`.
        num_classes: 174 by default, those of Something-Something (v1).
        num_frames: in every clip. Only gates for each frame (``tsn`` and ``tsm`` with CGC) have
            parameters that depend on it.
        in_channels: channels of the frames.
        backbone: ``resnet50``, ``resnet101``, or ``resnet{6n+2}_cifar`` for small frames.
        dropout: before the classifier; the paper's is 0.5 for TSN and TSM, 0.8 for P3D-A.
        shift_every: ``tsm`` shifts before every so many blocks of each stage; ``None`` for what
            TSM's release does, 2 for ``resnet101`` and 1 for ``resnet50``.
        weights: a checkpoint to start from, of the plain backbone for images or of this model.

    Raises:
        UserError: for an unknown name or backbone, a number out of range, or a checkpoint that
            does not fit.
    """
    design, image = architecture(name), _backbone(backbone)
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
    frames = frames_in_blocks(num_frames, image) if is_p3d else num_frames

    def convolution(stage: str) -> Convolution:
        if not design.gates_space:
            return nn.Conv2d
        seen = num_frames if stage == STEM else frames
        return partial(ClipGatedConv2d, frames=seen, per_frame=not is_p3d)

    model = VideoResNet(
        image.block,
        image.depths,
        num_classes=num_classes,
        num_frames=num_frames,
        dropout=dropout,
        pools_clip=is_p3d,
        in_channels=in_channels,
        width=image.width,
        small_images=image.small_images,
        convolution=convolution,
        shift=(
            temporal_shifts(num_frames, shift_every or shift_distance(image))
            if design.family == "tsm"
            else no_part
        ),
        temporal=(
            temporal_layers(num_frames, image, gated=design.gates_time) if is_p3d else no_part
        ),
        after=non_local_blocks(frames) if design.non_local else no_part,
    )
    if weights is not None:
        for module in model.modules():
            if isinstance(module, TemporalConv):
                module.reset_to_identity()
        load_weights(model, weights, other_classes=True)
    return model


def shift_distance_of(name: str, backbone: str) -> int:
    """``shift_every`` of a model that leaves it to TSM's release; 1 where nothing is shifted.

    Raises:
        UserError: for an unknown name or backbone.
    """
    return shift_distance(_backbone(backbone)) if architecture(name).family == "tsm" else 1


def _backbone(name: str) -> images.Architecture:
    if re.fullmatch(r"resnet(50|101|\d+_cifar)", name):
        with contextlib.suppress(UserError):  # which would name image models of all kinds
            return images.architecture(name)
    raise UserError(
        f"backbone is {name!r}, but must be resnet50, resnet101 or resnet{{6n+2}}_cifar"
    )
