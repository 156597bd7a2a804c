"""BN-Inception, the network of TRN and ECO (Table 4).

Ioffe and Szegedy, "Batch Normalization" (ICML 2015), appendix, with the numbers of channels of the
Caffe model that TSN, TRN and ECO start from. Its convolutions have no biases here, because a
normalisation follows each, and its poolings halve a map as its convolutions do, so that maps of any
size fit together.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fairseq_cgc.vision.network import STEM, Convolution, ImageNetwork, convolve

#: Channels of each block: the 1 x 1 branch; reduction and output of the 3 x 3 branch; reduction and
#: output of the branch of two 3 x 3 convolutions; the projection after pooling, 0 for none. Blocks
#: without a 1 x 1 branch halve the map.
BLOCKS = {
    "inception_3a": (64, (64, 64), (64, 96), 32),
    "inception_3b": (64, (64, 96), (64, 96), 64),
    "inception_3c": (0, (128, 160), (64, 96), 0),
    "inception_4a": (224, (64, 96), (96, 128), 128),
    "inception_4b": (192, (96, 128), (96, 128), 128),
    "inception_4c": (160, (128, 160), (128, 160), 128),
    "inception_4d": (96, (128, 192), (160, 192), 128),
    "inception_4e": (0, (128, 192), (192, 256), 0),
    "inception_5a": (352, (192, 320), (160, 224), 128),
    "inception_5b": (352, (192, 320), (192, 224), 128),
}
STAGES = (STEM, "inception3", "inception4", "inception5")
_MAPS = "inception_3c"  # whose inner maps ECO's 3-D network sees


def _unit(
    convolution: Convolution, in_channels: int, out_channels: int, kernel: int, stride: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        convolve(convolution, in_channels, out_channels, kernel, stride),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class Inception(nn.Module):
    """Parallel branches whose outputs are concatenated.

    Args:
        in_channels: channels of the input.
        name: in :data:`BLOCKS`.
        convolution: makes the 3 x 3 convolutions.
    """

    def __init__(self, in_channels: int, name: str, convolution: Convolution) -> None:
        super().__init__()
        single, (reduced, triple), (narrow, double), projected = BLOCKS[name]
        stride = 1 if single else 2
        self.branch_1x1 = _unit(nn.Conv2d, in_channels, single, 1) if single else None
        self.branch_3x3 = nn.Sequential(
            _unit(nn.Conv2d, in_channels, reduced, 1),
            _unit(convolution, reduced, triple, 3, stride),
        )
        self.branch_double = nn.Sequential(
            _unit(nn.Conv2d, in_channels, narrow, 1), _unit(convolution, narrow, double, 3)
        )
        self.branch_double2 = _unit(convolution, double, double, 3, stride)
        is_mean = projected and name != "inception_5b"
        pool = nn.AvgPool2d if is_mean else nn.MaxPool2d
        self.branch_pool = nn.Sequential(pool(3, stride, padding=1))
        if projected:
            self.branch_pool.append(_unit(nn.Conv2d, in_channels, projected, 1))
        self.out_channels = single + triple + double + (projected or in_channels)
        self.inner_channels = double

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """B x in_channels x H x W to the output and to the maps between the two 3 x 3 convolutions.

        The output has out_channels and, in a block that halves the map, half the height and width.
        """
        inner = self.branch_double(x)
        branches = [self.branch_3x3(x), self.branch_double2(inner), self.branch_pool(x)]
        if self.branch_1x1 is not None:
            branches.insert(0, self.branch_1x1(x))
        return torch.cat(branches, dim=1), inner


class BNInception(ImageNetwork):
    """Stem, ten :class:`Inception` blocks, average pooling, classifier.

    Args:
        num_classes: outputs of the classifier.
        in_channels: channels of the images.
        convolution: gives for each of :data:`STAGES` what makes its spatial convolutions.
    """

    volume_width = 128  # ECO's

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        convolution: Callable[[str], Convolution] = lambda stage: nn.Conv2d,
    ) -> None:
        super().__init__()
        width, channels = 64, 192
        self.conv1 = convolve(convolution(STEM), in_channels, width, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = nn.Sequential(
            _unit(nn.Conv2d, width, width, 1), _unit(convolution(STEM), width, channels, 3)
        )
        for name in BLOCKS:
            block = Inception(channels, name, convolution(f"inception{name[-2]}"))
            self.add_module(name, block)
            channels = block.out_channels
            if name == _MAPS:
                self.map_channels = block.inner_channels
        self.num_features = channels
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def maps_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As :class:`ImageNetwork` says; the maps are ECO's, 96 channels from inside 3c."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.maxpool(self.conv2(x))
        maps = x
        for name in BLOCKS:
            x, inner = self.get_submodule(name)(x)
            if name == _MAPS:
                maps = inner
        return maps, self.avgpool(x).flatten(1)
