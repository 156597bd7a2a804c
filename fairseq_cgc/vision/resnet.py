"""Residual networks whose spatial convolutions and attention can be exchanged.

He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016). Parameter names are
torchvision's (``conv1``, ``layer1.0.bn2``, ``fc``), so that its checkpoints fit. Additions to a
plain ResNet have names of their own (:data:`fairseq_cgc.vision.weights.ADDITIONS`): ``gate``
(context-gated convolutions), ``offset`` (deformable ones), ``attention`` (before a block's
addition), ``after`` (behind a block) and ``temporal`` (convolutions over the frames of a clip).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from fairseq_cgc.vision.network import STEM, Convolution, ImageNetwork, convolve

Attention = Callable[[int], nn.Module]
"""Called with C; gives a module that keeps the shape of its input, B x C x H x W."""
BlockPart = Callable[[str, int, int, int], nn.Module | None]
"""Called with stage, index of the block, blocks in the stage, and channels; may give none."""


def no_part(stage: str, index: int, blocks: int, channels: int) -> None:
    """The :data:`BlockPart` that adds nothing."""


class Block(nn.Module):
    """A residual block: two or three convolutions ``conv1``, ``conv2``, ... and a shortcut.

    Args:
        in_channels: channels of the input.
        width: channels between the convolutions; the output has ``expansion`` times as many.
        stride: of the first 3 x 3 convolution and of the shortcut.
        convolution: makes the 3 x 3 convolutions.
        attention: changes the residual before the addition.
        shift: changes the input of the first convolution, but not of the shortcut.
        temporal: changes the input of the last convolution, ``width`` channels.
        after: changes the block's output.
    """

    kernel_sizes: tuple[int, ...]
    expansion: int

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int = 1,
        convolution: Convolution = nn.Conv2d,
        attention: Attention | None = None,
        shift: nn.Module | None = None,
        temporal: nn.Module | None = None,
        after: nn.Module | None = None,
    ) -> None:
        super().__init__()
        count = len(self.kernel_sizes)
        out_channels = width * self.expansion
        channels = [in_channels, *[width] * (count - 1), out_channels]
        # Checkpoints hold the optimizer's state in the order of the parameters.
        self.shift = shift
        for number, size in enumerate(self.kernel_sizes, start=1):
            if number == count:
                self.temporal = temporal
            make = convolution if size > 1 else nn.Conv2d
            step = stride if number == 1 + self.kernel_sizes.index(3) else 1
            conv = convolve(make, channels[number - 1], channels[number], size, step)
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", nn.BatchNorm2d(channels[number]))
        self.relu = nn.ReLU(inplace=True)
        self.attention = attention(out_channels) if attention is not None else None
        self.downsample = _shortcut(in_channels, out_channels, stride)
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        """B x in_channels x H x W to B x channels x ceil(H / stride) x ceil(W / stride)."""
        out = _through(self.shift, x)
        last = len(self.kernel_sizes)
        for number in range(1, last):
            out = self.relu(self._convolve(number, out))
        out = self._convolve(last, _through(self.temporal, out))
        out = _through(self.attention, out)
        return _through(self.after, self.relu(out + _through(self.downsample, x)))

    def _convolve(self, number: int, x: Tensor) -> Tensor:
        conv, norm = self.get_submodule(f"conv{number}"), self.get_submodule(f"bn{number}")
        return norm(conv(x))


class BasicBlock(Block):
    """Two 3 x 3 convolutions; arguments as for :class:`Block`."""

    kernel_sizes = (3, 3)
    expansion = 1


class Bottleneck(Block):
    """1 x 1, 3 x 3 and 1 x 1 convolutions; arguments as for :class:`Block`.

    The stride is the 3 x 3 convolution's, as in torchvision ("ResNet v1.5").
    """

    kernel_sizes = (1, 3, 1)
    expansion = 4


class Shape(NamedTuple):
    """The shape of a plain ResNet: arguments of :class:`ResNet`."""

    block: type[Block]
    depths: tuple[int, ...]
    width: int = 64
    small_images: bool = False


class ResNet(ImageNetwork):
    """Stem, stages ``layer1``, ``layer2``, ... of residual blocks, average pooling, classifier.

    Args:
        block: :class:`BasicBlock` or :class:`Bottleneck`.
        depths: blocks in each stage; each stage has twice the width of the one before, and
            all but the first halve the map.
        num_classes: outputs of the classifier.
        in_channels: channels of the images.
        width: of the stem and the first stage.
        small_images: a 3 x 3 stem of stride 1 and no pooling (CIFAR) instead of a 7 x 7 stem
            of stride 2 followed by max pooling (ImageNet).
        convolution: gives for each of :func:`stage_names` what makes its spatial convolutions.
        attention: makes every block's attention, as in :class:`Block`.
        shift, after: make the parts of the same names in :class:`Block`.
        temporal: likewise; for the stem, a stage of one block, it makes what comes before the
            max pooling.
    """

    def __init__(
        self,
        block: type[Block],
        depths: Sequence[int],
        *,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        small_images: bool = False,
        convolution: Callable[[str], Convolution] = lambda stage: nn.Conv2d,
        attention: Attention | None = None,
        shift: BlockPart = no_part,
        temporal: BlockPart = no_part,
        after: BlockPart = no_part,
    ) -> None:
        super().__init__()
        self.map_channels = 2 * width * block.expansion
        self.volume_width = width if small_images else 2 * width
        stem = partial(convolve, convolution(STEM), in_channels, width)
        self.conv1 = stem(3) if small_images else stem(7, 2)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.temporal = temporal(STEM, 0, 1, width)
        self.maxpool = nn.Identity() if small_images else nn.MaxPool2d(3, stride=2, padding=1)
        self.stages: list[str] = []
        channels = width
        for number, (stage, blocks) in enumerate(zip(stage_names(depths)[1:], depths, strict=True)):
            stage_width = width * 2**number
            layer = nn.Sequential()
            for index in range(blocks):
                out_channels = stage_width * block.expansion
                layer.append(
                    block(
                        channels,
                        stage_width,
                        stride=2 if number > 0 and index == 0 else 1,
                        convolution=convolution(stage),
                        attention=attention,
                        shift=shift(stage, index, blocks, channels),
                        temporal=temporal(stage, index, blocks, stage_width),
                        after=after(stage, index, blocks, out_channels),
                    )
                )
                channels = out_channels
            self.stages.append(f"layer{number + 1}")
            self.add_module(self.stages[-1], layer)
        self.num_features = channels
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def maps_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As :class:`ImageNetwork` says; the maps are those of the second stage."""
        x = _through(self.temporal, self.relu(self.bn1(self.conv1(x))))
        x = maps = self.maxpool(x)
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
            if stage == "layer2":
                maps = x
        return maps, self.avgpool(x).flatten(1)


def stage_names(depths: Sequence[int]) -> tuple[str, ...]:
    """``stem``, ``res1`` (torchvision's ``layer1``), ``res2``, ... as Table 3 calls them."""
    return (STEM, *(f"res{number + 1}" for number in range(len(depths))))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        convolve(nn.Conv2d, in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels)
    )


def _through(module: nn.Module | None, x: Tensor) -> Tensor:
    return x if module is None else module(x)
