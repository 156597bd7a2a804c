"""Residual networks whose spatial convolutions and attention can be exchanged.

He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016). Parameter names are
torchvision's (``conv1``, ``layer1.0.bn2``, ``fc``), so that its checkpoints fit. What a plain
ResNet lacks has names of its own: ``gate`` (context-gated convolutions), ``offset``
(deformable ones), ``attention`` (before a block's addition), ``after`` (behind a block) and
``temporal`` (convolutions over the frames of a clip).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

Convolution = Callable[..., nn.Conv2d]
"""Called as ``nn.Conv2d`` is."""
Attention = Callable[[int], nn.Module]
"""Channels to a module that keeps the shape of its input, B x C x H x W."""
BlockPart = Callable[[str, int, int, int], nn.Module | None]
"""Stage, index of the block, number of blocks in the stage and channels to a module or none."""

STEM = "stem"


def no_part(stage: str, index: int, blocks: int, channels: int) -> None:
    """The :data:`BlockPart` that is nowhere."""


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut; ``width`` output channels.

    Args:
        in_channels: channels of the input.
        width: channels between the convolutions, and of the output.
        stride: of the first convolution and of the shortcut.
        convolution: makes the 3 x 3 convolutions.
        attention: changes the residual before the addition.
        shift: changes what the first convolution sees, and not the shortcut.
        temporal: changes what the last convolution sees, ``width`` channels.
        after: changes the block's output.
    """

    expansion = 1

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
        self.shift = shift
        self.conv1 = _conv(convolution, in_channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.temporal = temporal
        self.conv2 = _conv(convolution, width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.attention = attention(width) if attention is not None else None
        self.downsample = _shortcut(in_channels, width, stride)
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        """B x in_channels x H x W to B x width x ceil(H / stride) x ceil(W / stride)."""
        out = self.relu(self.bn1(self.conv1(_through(self.shift, x))))
        out = _through(self.temporal, out)
        return _join(self, self.bn2(self.conv2(out)), x)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions and a shortcut; ``4 * width`` output channels.

    The stride is the 3 x 3 convolution's, as in torchvision ("ResNet v1.5"). Arguments as for
    :class:`BasicBlock`.
    """

    expansion = 4

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
        channels = width * self.expansion
        self.shift = shift
        self.conv1 = _conv(nn.Conv2d, in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(convolution, width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.temporal = temporal
        self.conv3 = _conv(nn.Conv2d, width, channels, 1)
        self.bn3 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.attention = attention(channels) if attention is not None else None
        self.downsample = _shortcut(in_channels, channels, stride)
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        """B x in_channels x H x W to B x 4 width x ceil(H / stride) x ceil(W / stride)."""
        out = self.relu(self.bn1(self.conv1(_through(self.shift, x))))
        out = self.relu(self.bn2(self.conv2(out)))
        out = _through(self.temporal, out)
        return _join(self, self.bn3(self.conv3(out)), x)


class ResNet(nn.Module):
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
        convolution: for each of :func:`stage_names`, what makes its spatial convolutions.
        attention: for each block, what changes its residual.
        shift: for each block, what changes the input of the first convolution.
        temporal: for each block, what changes the input of the last convolution; for the stem,
            counted as a stage of one block, what comes before the max pooling.
        after: for each block, what changes its output.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
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
        stem = partial(_conv, convolution(STEM), in_channels, width)
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
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images, B x in_channels x H x W, to B x num_classes logits."""
        return self.fc(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """Images, B x in_channels x H x W, to what the classifier sees of them, B x channels."""
        x = _through(self.temporal, self.relu(self.bn1(self.conv1(x))))
        x = self.maxpool(x)
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return self.avgpool(x).flatten(1)


def stage_names(depths: Sequence[int]) -> tuple[str, ...]:
    """``stem``, ``res1`` (torchvision's ``layer1``), ``res2``, ... as Table 3 calls them."""
    return (STEM, *(f"res{number + 1}" for number in range(len(depths))))


def _conv(
    convolution: Convolution, in_channels: int, out_channels: int, kernel: int, stride: int = 1
) -> nn.Conv2d:
    conv = convolution(
        in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        _conv(nn.Conv2d, in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels)
    )


def _join(block: BasicBlock | Bottleneck, residual: Tensor, x: Tensor) -> Tensor:
    """Attention, addition, ReLU, and what comes after."""
    residual = _through(block.attention, residual)
    return _through(block.after, block.relu(residual + _through(block.downsample, x)))


def _through(module: nn.Module | None, x: Tensor) -> Tensor:
    return x if module is None else module(x)
