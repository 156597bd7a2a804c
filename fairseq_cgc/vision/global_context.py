"""The global context block of GCNet: what all positions have in common is added to each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GlobalContext(nn.Module):
    """Cao et al., "GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond"
    (ICCV workshops 2019), equation 5.

    ``y_i = x_i + W2 relu(LN(W1 sum_j a_j x_j))``, where a is the softmax of ``Wk x_j`` over
    all positions j. W2 starts at zero, as in the authors' release, and so the block as the
    identity.

    Args:
        channels: C.
        reduction: C over the width between W1 and W2.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        width = channels // reduction
        self.key = nn.Conv2d(channels, 1, 1)
        self.fc1 = nn.Linear(channels, width)
        self.norm = nn.LayerNorm(width)
        self.fc2 = nn.Linear(width, channels)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        """B x C x H x W to the same."""
        attention = torch.softmax(self.key(x).flatten(2), dim=-1)  # B x 1 x HW
        context = (x.flatten(2) @ attention.mT).squeeze(-1)  # B x C
        return x + self.fc2(F.relu(self.norm(self.fc1(context))))[:, :, None, None]
