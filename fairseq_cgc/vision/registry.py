"""Image models by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from fairseq_cgc.core import UserError
from fairseq_cgc.vision import bn_inception
from fairseq_cgc.vision.attention import BAM, CBAM, GlobalContext, GloRe, SqueezeExcitation
from fairseq_cgc.vision.deformable import ModulatedDeformConv2d
from fairseq_cgc.vision.gating import gated_convolutions
from fairseq_cgc.vision.network import Convolution
from fairseq_cgc.vision.resnet import BasicBlock, Bottleneck, ResNet, Shape, stage_names
from fairseq_cgc.vision.weights import load_weights

SUFFIX = "_cgc"


@dataclass(frozen=True)
class Architecture:
    """What a plain name stands for.

    Attributes:
        build: makes the model from the keywords ``num_classes`` and ``in_channels``, and, if it
            can be gated, ``convolution``: for the name of a stage, what makes its spatial
            convolutions. The model's first convolution is called ``conv1``, its classifier
            ``fc``.
        stages: their names.
        can_be_gated: whether ``build`` takes ``convolution``.
        is_backbone: whether video models can be built on it.
        shape: of a plain ResNet.
        num_classes: of the data set that the model was published for.
        image_size: side of that data set's square images.
    """

    build: Callable[..., nn.Module]
    stages: tuple[str, ...]
    can_be_gated: bool = True
    is_backbone: bool = False
    shape: Shape | None = None
    num_classes: int = 1000
    image_size: int = 224


def _resnet(shape: Shape, **parts: Any) -> Architecture:
    """A ResNet with ``parts`` as :class:`ResNet` takes them; plain without any."""
    return Architecture(
        partial(ResNet, **shape._asdict(), **parts),
        stage_names(shape.depths),
        can_be_gated="convolution" not in parts,
        is_backbone=not parts,
        shape=None if parts else shape,
        num_classes=10 if shape.small_images else 1000,
        image_size=32 if shape.small_images else 224,
    )


def _cifar(depth: int) -> Architecture:
    return _resnet(Shape(BasicBlock, ((depth - 2) // 6,) * 3, width=16, small_images=True))


def _bam(stage: str, index: int, blocks: int, channels: int) -> nn.Module | None:
    """At the end of every stage but the last."""
    return BAM(channels) if stage != "res4" and index == blocks - 1 else None


def _glore(stage: str, index: int, blocks: int, channels: int) -> nn.Module | None:
    """Three units, after every other block of the stage with 14 x 14 maps."""
    return GloRe(channels) if stage == "res3" and index % 2 == 0 else None


def _deformable(stage: str) -> Convolution:
    """In conv3 to conv5 of the ResNet paper's counting, which starts with the stem."""
    return ModulatedDeformConv2d if stage in ("res2", "res3", "res4") else nn.Conv2d


_RESNET50 = Shape(Bottleneck, (3, 4, 6, 3))
_ARCHITECTURES = {
    "resnet50": _resnet(_RESNET50),
    "resnet101": _resnet(Shape(Bottleneck, (3, 4, 23, 3))),
    "bn_inception": Architecture(bn_inception.BNInception, bn_inception.STAGES, is_backbone=True),
    "se_resnet50": _resnet(_RESNET50, attention=SqueezeExcitation),
    "cbam_resnet50": _resnet(_RESNET50, attention=CBAM),
    "bam_resnet50": _resnet(_RESNET50, after=_bam),
    "gc_resnet50": _resnet(_RESNET50, attention=GlobalContext),
    "glore_resnet50": _resnet(_RESNET50, after=_glore),
    "dcnv2_resnet50": _resnet(_RESNET50, convolution=_deformable),
    "resnet20_cifar": _cifar(20),
    "resnet110_cifar": _cifar(110),
}


def list_models() -> list[str]:
    """The names :func:`create_model` takes, besides other depths of ``resnet{6n+2}_cifar``."""
    gated = [f"{name}{SUFFIX}" for name, a in _ARCHITECTURES.items() if a.can_be_gated]
    return sorted([*_ARCHITECTURES, *gated])


def list_backbones() -> list[str]:
    """The models on which video models can be built, besides other ``resnet{6n+2}_cifar``."""
    return [name for name, found in _ARCHITECTURES.items() if found.is_backbone]


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
    if found is None or (name != plain and not found.can_be_gated):
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
) -> nn.Module:
    """Build a model: images, B x C x H x W, to B x num_classes logits.

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
    parts: dict[str, Any] = {}
    if cgc is not None or name.endswith(SUFFIX):
        if not design.can_be_gated:
            raise UserError(f"cgc is {cgc}, but must be left out: {name} cannot be gated")
        parts["convolution"] = gated_convolutions(cgc or {}, design.stages)
    model = design.build(num_classes=num_classes, in_channels=in_channels, **parts)
    if weights is not None:
        load_weights(model, weights, other_classes=True)
    return model
