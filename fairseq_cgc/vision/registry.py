"""Models by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.attention import BAM, CBAM, GlobalContext, GloRe, SqueezeExcitation
from fairseq_cgc.vision.deformable import ModulatedDeformConv2d
from fairseq_cgc.vision.gating import gated_convolutions
from fairseq_cgc.vision.resnet import (
    Attention,
    BasicBlock,
    BlockPart,
    Bottleneck,
    Convolution,
    ResNet,
    no_part,
    stage_names,
)
from fairseq_cgc.vision.weights import load_weights

SUFFIX = "_cgc"


@dataclass(frozen=True)
class Architecture:
    """What a plain name stands for.

    Attributes:
        block, depths, width, small_images, attention, after: as :class:`ResNet` takes them.
        convolution: by stage; ``None`` for ``nn.Conv2d`` throughout, which alone can be gated.
        num_classes: of the data set the model was published for.
        image_size: side of that data set's square images.
    """

    block: type[BasicBlock] | type[Bottleneck]
    depths: tuple[int, ...]
    width: int = 64
    small_images: bool = False
    attention: Attention | None = None
    after: BlockPart = no_part
    convolution: Callable[[str], Convolution] | None = None
    num_classes: int = 1000
    image_size: int = 224


def _bam(stage: str, index: int, blocks: int, channels: int) -> nn.Module | None:
    """At the end of every stage but the last."""
    return BAM(channels) if stage != "res4" and index == blocks - 1 else None


def _glore(stage: str, index: int, blocks: int, channels: int) -> nn.Module | None:
    """Three units, after every other block of the stage with 14 x 14 maps."""
    return GloRe(channels) if stage == "res3" and index % 2 == 0 else None


def _deformable(stage: str) -> Convolution:
    """In conv3 to conv5 of the ResNet paper's counting, which starts with the stem."""
    return ModulatedDeformConv2d if stage in ("res2", "res3", "res4") else nn.Conv2d


def _cifar(depth: int) -> Architecture:
    return Architecture(
        BasicBlock,
        ((depth - 2) // 6,) * 3,
        width=16,
        small_images=True,
        num_classes=10,
        image_size=32,
    )


_RESNET50 = Architecture(Bottleneck, (3, 4, 6, 3))
_ARCHITECTURES = {
    "resnet50": _RESNET50,
    "resnet101": Architecture(Bottleneck, (3, 4, 23, 3)),
    "se_resnet50": replace(_RESNET50, attention=SqueezeExcitation),
    "cbam_resnet50": replace(_RESNET50, attention=CBAM),
    "bam_resnet50": replace(_RESNET50, after=_bam),
    "gc_resnet50": replace(_RESNET50, attention=GlobalContext),
    "glore_resnet50": replace(_RESNET50, after=_glore),
    "dcnv2_resnet50": replace(_RESNET50, convolution=_deformable),
    "resnet20_cifar": _cifar(20),
    "resnet110_cifar": _cifar(110),
}


def list_models() -> list[str]:
    """The names :func:`create_model` takes, beside other depths of ``resnet{6n+2}_cifar``."""
    gated = [f"{name}{SUFFIX}" for name, a in _ARCHITECTURES.items() if a.convolution is None]
    return sorted([*_ARCHITECTURES, *gated])


def architecture(name: str) -> Architecture:
    """What ``name``, with or without the suffix, stands for.

    Raises:
        UserError: if there is no such model.
    """
    plain = name.removesuffix(SUFFIX)
    found = _ARCHITECTURES.get(plain)
    cifar = re.fullmatch(r"resnet([1-9]\d{0,3})_cifar", plain)
    if found is None and cifar and int(cifar[1]) >= 8 and int(cifar[1]) % 6 == 2:
        found = _cifar(int(cifar[1]))
    if found is None or (name != plain and found.convolution is not None):
        raise UserError(
            f"there is no model {name!r}; allowed are {', '.join(list_models())} "
            f"and other depths of resnet{{6n+2}}_cifar[{SUFFIX}]"
        )
    return found


def create_model(
    name: str,
    num_classes: int | None = None,
    *,
    in_channels: int = 3,
    cgc: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
) -> ResNet:
    """Build a model.

    With the suffix ``_cgc`` every convolution of more than 1 x 1 is context-gated, the stem
    included; convolutions inside attention blocks are not.

    Args:
        name: one of :func:`list_models`, or ``resnet{6n+2}_cifar`` of any depth.
        num_classes: 1000 by default, 10 for the ``_cifar`` models.
        in_channels: channels of the images.
        cgc: switches of the gates (:func:`fairseq_cgc.vision.gating.gated_convolutions`);
            a plain name with ``cgc={}`` means the same as the name with the suffix.
        weights: a checkpoint to start from (:func:`load_weights`); its classifier is left out if
            it has another number of classes.

    Raises:
        UserError: for an unknown name or switch, a number that is not positive, or a
            checkpoint that does not fit.
    """
    design = architecture(name)
    if num_classes is None:
        num_classes = design.num_classes
    for option, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if value < 1:
            raise UserError(f"{option} is {value}, but must be at least 1")
    convolution = design.convolution or (lambda stage: nn.Conv2d)
    if cgc is not None or name.endswith(SUFFIX):
        if design.convolution is not None:
            raise UserError(f"{name} has no plain 3 x 3 convolutions to gate: cgc must be None")
        convolution = gated_convolutions(cgc or {}, stage_names(design.depths))
    model = ResNet(
        design.block,
        design.depths,
        num_classes=num_classes,
        in_channels=in_channels,
        width=design.width,
        small_images=design.small_images,
        convolution=convolution,
        attention=design.attention,
        after=design.after,
    )
    if weights is not None:
        load_weights(model, weights, other_classes=True)
    return model
