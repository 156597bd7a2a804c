"""BAM: one gate for every channel and position, between the stages of a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BAM(nn.Module):
    """Park et al., "BAM: Bottleneck Attention Module" (BMVC 2018), equations 1 to 4.

    ``y = x * (1 + sigmoid(Mc + Ms))`` with ``Mc = BN(MLP(mean(x)))``, C numbers from the mean
    over positions, and ``Ms = BN(f3(f2(f1(f0(x)))))``, one map: f0 and f3 are 1 x 1
    convolutions to C / reduction channels and to one, f1 and f2 dilated 3 x 3 convolutions.
    Batch normalisation and ReLU stand between the layers of both.

    Args:
        channels: C.
        reduction: C over the width inside both parts.
        dilation: of the 3 x 3 convolutions.
    """

    def __init__(self, channels: int, reduction: int = 16, dilation: int = 4) -> None:
        super().__init__()
        width = channels // reduction
        self.channel = nn.Sequential(
            nn.Conv2d(channels, width, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, channels, 1),
            nn.BatchNorm2d(channels),
        )
        self.spatial = nn.Sequential(nn.Conv2d(channels, width, 1))
        for _ in range(2):
            self.spatial.extend(
                [
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation),
                ]
            )
        self.spatial.extend(
            [
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, 1, 1),
                nn.BatchNorm2d(1),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """B x C x H x W to the same; training needs B > 1, as its means are normalised."""
        logits = self.channel(x.mean((2, 3), keepdim=True)) + self.spatial(x)
        return x * (1 + torch.sigmoid(logits))
