"""CBAM: a gate for each channel, then a gate for each position."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CBAM(nn.Module):
    """Woo et al., "CBAM: Convolutional Block Attention Module" (ECCV 2018), equations 1 to 3.

    ``x1 = x * sigmoid(MLP(mean(x)) + MLP(max(x)))``, mean and maximum over positions, then
    ``y = x1 * sigmoid(conv7x7([mean(x1), max(x1)]))``, mean and maximum over channels. As in
    the authors' release, the 7 x 7 convolution is followed by batch normalisation.

    Args:
        channels: C.
        reduction: C over the width inside the MLP.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """B x C x H x W to the same."""
        pooled = torch.stack([x.mean((2, 3)), x.amax((2, 3))])  # 2 x B x C
        logits = self.fc2(F.relu(self.fc1(pooled))).sum(0)
        x = x * torch.sigmoid(logits)[:, :, None, None]
        pooled = torch.stack([x.mean(1), x.amax(1)], dim=1)  # B x 2 x H x W
        return x * torch.sigmoid(self.bn(self.conv(pooled)))
