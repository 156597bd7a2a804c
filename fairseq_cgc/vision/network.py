"""What all networks for images have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

Convolution = Callable[..., nn.Conv2d]
"""Called like ``nn.Conv2d``."""

STEM = "stem"


class ImageNetwork(nn.Module, ABC):
    """A network whose first convolution is ``conv1`` and whose classifier is ``fc``.

    Attributes:
        num_features: C, the channels that the classifier sees.
        map_channels: c, the channels of the maps that a 3-D network may see.
        volume_width: the width of that network's first blocks.
    """

    conv1: nn.Conv2d
    fc: nn.Module
    num_features: int
    map_channels: int
    volume_width: int

    @abstractmethod
    def maps_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps from halfway (28 x 28 for images of 224 x 224), and the classifier's input.

        Args:
            x: images, B x in_channels x H x W.

        Returns:
            B x c x h x w, and B x C, means over the last maps.
        """

    def features(self, x: Tensor) -> Tensor:
        """Images, B x in_channels x H x W, to the classifier's input, B x C."""
        return self.maps_and_features(x)[1]

    def forward(self, x: Tensor) -> Tensor:
        """Images, B x in_channels x H x W, to B x num_classes logits."""
        return self.fc(self.features(x))


def convolve(
    convolution: Convolution, in_channels: int, out_channels: int, kernel: int, stride: int = 1
) -> nn.Conv2d:
    """A convolution without bias that keeps the size of maps, over ``stride``."""
    conv = convolution(
        in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
