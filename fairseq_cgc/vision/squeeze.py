"""Squeeze-and-excitation: a gate for each channel from the averages of all channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    """Hu et al., "Squeeze-and-Excitation Networks" (CVPR 2018), equations 2 to 4.

    ``y = x * sigmoid(W2 relu(W1 mean(x)))``, the mean over positions.

    Args:
        channels: C.
        reduction: C over the width between W1 and W2.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)

    def forward(self, x: Tensor) -> Tensor:
        """B x C x H x W to the same."""
        gate = torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3))))))
        return x * gate[:, :, None, None]
