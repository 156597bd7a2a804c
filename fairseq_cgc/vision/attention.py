"""The attention blocks that CGC is compared with: SE, CBAM, BAM, global context and GloRe.

Shape letters: B batch, C channels, H x W a feature map's size.
"""

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
            self.spatial.extend([nn.BatchNorm2d(width), nn.ReLU(inplace=True)])
            self.spatial.append(nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation))
        self.spatial.extend([nn.BatchNorm2d(width), nn.ReLU(inplace=True)])
        self.spatial.extend([nn.Conv2d(width, 1, 1), nn.BatchNorm2d(1)])

    def forward(self, x: Tensor) -> Tensor:
        """B x C x H x W to the same; training needs B > 1, because means are normalised."""
        logits = self.channel(x.mean((2, 3), keepdim=True)) + self.spatial(x)
        return x * (1 + torch.sigmoid(logits))


class GlobalContext(nn.Module):
    """Cao et al., "GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond"
    (ICCV workshops 2019), equation 5.

    ``y_i = x_i + W2 relu(LN(W1 sum_j a_j x_j))``, where a is the softmax of ``Wk x_j`` over
    all positions j. W2 starts at zero, as in the authors' release, so the block starts as the
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


class GloRe(nn.Module):
    """Chen et al., "Graph-Based Global Reasoning Networks" (CVPR 2019), equations 1 to 4.

    With L positions and N = C/4 nodes of S = C/2 numbers each: ``V = B phi(x)^T`` gathers the
    reduced input phi(x), S x L, by the projection ``B = theta(x)``, N x L;
    ``Z = relu((I - A) V) W`` reasons over the nodes; ``y = x + BN(extend(B^T Z))`` returns the
    result to the positions. Reducing, projecting and extending are 1 x 1 convolutions.

    N, S, the ReLU, and the scale of zero with which the last normalisation starts, so that the
    unit starts as the identity, are those of the authors' release. V is divided by L, so its
    scale does not depend on the size of the map.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        nodes, states = channels // 4, channels // 2
        self.reduce = nn.Conv2d(channels, states, 1)
        self.project = nn.Conv2d(channels, nodes, 1)
        self.adjacency = nn.Linear(nodes, nodes)
        self.update = nn.Linear(states, states, bias=False)
        self.extend = nn.Conv2d(states, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """B x C x H x W to the same."""
        projection = self.project(x).flatten(2)  # B x N x L
        states = self.reduce(x).flatten(2)  # B x S x L
        nodes = projection @ states.mT / states.shape[-1]  # B x N x S
        nodes = nodes - self.adjacency(nodes.mT).mT
        nodes = self.update(F.relu(nodes))
        returned = (nodes.mT @ projection).unflatten(-1, x.shape[2:])  # B x S x H x W
        return x + self.norm(self.extend(returned))
