"""Video models by name: a network for images and what is added to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from fairseq_cgc.core import CGConv3d, UserError
from fairseq_cgc.video.layers import (
    ClipGatedConv2d,
    TemporalConv,
    frames_in_blocks,
    non_local_blocks,
    shift_distance,
    temporal_layers,
    temporal_shifts,
)
from fairseq_cgc.video.networks import ClipNetwork, VideoBNInception, VideoResNet
from fairseq_cgc.vision import registry as images
from fairseq_cgc.vision.network import STEM, Convolution
from fairseq_cgc.vision.resnet import BlockPart, Shape, no_part
from fairseq_cgc.vision.weights import load_weights


@dataclass(frozen=True)
class Architecture:
    """What a name stands for.

    Attributes:
        family: ``tsn``, ``tsm``, ``p3d``, ``trn`` or ``eco``.
        non_local: whether there are non-local blocks.
        gates_time: whether the temporal convolutions in the blocks are gated (CGC 1-D).
        gates_space: whether the spatial convolutions are gated by the whole clip (CGC 3-D), and
            those of a 3-D network by what it sees.
    """

    family: str
    non_local: bool = False
    gates_time: bool = False
    gates_space: bool = False

    @property
    def min_frames(self) -> int:
        """Frames of the shortest clip: TRN relates two; ECO's 3-D network halves them twice."""
        return {"trn": 2, "eco": 4}.get(self.family, 1)

    @property
    def needs_resnet(self) -> bool:
        """Whether something is added inside the blocks of a ResNet."""
        return self.non_local or self.family in ("tsm", "p3d")


_CGC = {"": (False, False), "_cgc": (False, True)}
_CGC_P3D = {
    "": (False, False),
    "_cgc1d": (True, False),
    "_cgc3d": (False, True),
    "_cgc1d3d": (True, True),
}
_NON_LOCAL = ("", "_nonlocal")
_ARCHITECTURES = {
    f"{family}{non_local}{suffix}": Architecture(family, bool(non_local), *gates)
    for family, variants, suffixes in (
        ("tsn", _NON_LOCAL, _CGC),
        ("tsm", _NON_LOCAL, _CGC),
        ("p3d", _NON_LOCAL, _CGC_P3D),
        ("trn", ("",), _CGC),
        ("eco", ("",), _CGC),
    )
    for non_local in variants
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
) -> ClipNetwork:
    """Build a model: clips, B x T x C x H x W, to B x num_classes logits (section 4.3).

    ``tsn`` averages the logits of the frames, ``tsm`` shifts channels between frames, ``p3d`` has
    temporal convolutions (appendix A.4), ``trn`` classifies by the relations between frames, and
    ``eco`` has a 3-D network that sees the maps from halfway. ``_nonlocal`` adds five non-local
    blocks. ``_cgc`` and ``_cgc3d`` gate every spatial convolution of more than 1 x 1 by the whole
    clip, and those of ECO's 3-D network by its maps of the clip (:class:`CGConv3d`), ``_cgc1d`` the
    temporal convolutions "in every P3D-A block" (not the stem's), ``_cgc1d3d`` both.

    Weights of images fit all models. Gates, a classifier for another number of classes, TRN's
    relations, and ECO's 3-D network and classifier then start at random, and non-local blocks as
    the identity. Temporal convolutions start by passing on the frame under their middle, so that
    the layers behind them first see the features from which they have learnt. Without weights,
    temporal convolutions are Kaiming-initialised.

    Args:
        name: one of :func:`list_models`.
        num_classes: 174 by default, those of Something-Something (v1).
        num_frames: T, at least 2 for ``trn`` and 4 for ``eco``. It changes the parameters of
            ``trn`` and of gates for each frame (``tsn``, ``tsm``, ``trn`` and ``eco`` with CGC).
        in_channels: channels of the frames.
        backbone: a plain ResNet for images, such as ``resnet50``, or ``resnet{6n+2}_cifar`` for
            small frames; ``tsn``, ``trn`` and ``eco`` also take ``bn_inception``.
        dropout: before the classifier; the paper's is 0.5 for TSN and TSM, 0.8 for P3D-A.
        shift_every: ``tsm`` shifts before every so many blocks of each stage; by default as TSM's
            release, 2 for ``resnet101`` and 1 for ``resnet50``.
        weights: a checkpoint to start from, of the plain backbone or of this model.

    Raises:
        UserError: for an unknown name or backbone, a number out of range, or a checkpoint that
            does not fit.
    """
    design, shape = architecture(name), _backbone(name, backbone)
    for option, value, least in (
        ("num_classes", num_classes, 1),
        ("num_frames", num_frames, design.min_frames),
        ("in_channels", in_channels, 1),
        ("shift_every", 1 if shift_every is None else shift_every, 1),
    ):
        if value < least:
            where = f" with {name}" if least > 1 else ""
            raise UserError(f"{option} is {value}, but must be at least {least}{where}")
    if not 0 <= dropout < 1:
        raise UserError(f"dropout is {dropout}, but must be at least 0 and below 1")
    is_p3d = design.family == "p3d"
    frames = frames_in_blocks(num_frames, shape) if is_p3d and shape else num_frames

    def convolution(stage: str) -> Convolution:
        if not design.gates_space:
            return nn.Conv2d
        seen = num_frames if stage == STEM else frames
        return partial(ClipGatedConv2d, frames=seen, per_frame=not is_p3d)

    others: dict[str, Any] = {
        "num_classes": num_classes,
        "num_frames": num_frames,
        "dropout": dropout,
        "pools_clip": is_p3d,
        "relates": design.family == "trn",
        "in_channels": in_channels,
        "convolution": convolution,
    }
    if design.family == "eco":
        others["volume"] = CGConv3d if design.gates_space else nn.Conv3d
    if shape is None:
        model: ClipNetwork = VideoBNInception(**others)
    else:
        shift: BlockPart = no_part
        temporal: BlockPart = no_part
        if design.family == "tsm":
            shift = temporal_shifts(num_frames, shift_every or shift_distance(shape))
        if is_p3d:
            temporal = temporal_layers(num_frames, shape, gated=design.gates_time)
        after = non_local_blocks(frames) if design.non_local else no_part
        others |= {"shift": shift, "temporal": temporal, "after": after}
        model = VideoResNet(**shape._asdict(), **others)
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
    shape = _backbone(name, backbone)
    return shift_distance(shape) if architecture(name).family == "tsm" and shape else 1


def _backbone(name: str, backbone: str) -> Shape | None:
    """The backbone of the model ``name`` if it is a ResNet, None if it is BN-Inception."""
    needs_resnet = architecture(name).needs_resnet
    known = [b for b in images.list_backbones() if "resnet" in b or not needs_resnet]
    try:
        found = images.architecture(backbone)
    except UserError:  # which would name image models of all kinds
        found = None
    is_plain = found is not None and found.is_backbone and not backbone.endswith(images.SUFFIX)
    if found is None or not is_plain or (needs_resnet and found.shape is None):
        where = f" with {name}" if needs_resnet else ""
        raise UserError(
            f"backbone is {backbone!r}, but must be {', '.join(known)} or another "
            f"resnet{{6n+2}}_cifar{where}"
        )
    return found.shape
