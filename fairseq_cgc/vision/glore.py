"""GloRe: positions are gathered to nodes, nodes reason in a graph, the result is handed back."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class GloRe(nn.Module):
    """Chen et al., "Graph-Based Global Reasoning Networks" (CVPR 2019), equations 1 to 4.

    With L positions, N = C/4 nodes of S = C/2 numbers each: ``V = B phi(x)^T`` gathers
    the reduced input phi(x), S x L, by the projection ``B = theta(x)``, N x L;
    ``Z = relu((I - A) V) W`` reasons over the nodes; ``y = x + BN(extend(B^T Z))`` hands the
    result back. Reducing, projecting and extending are 1 x 1 convolutions.

    From the authors' release come N and S, the ReLU and the last normalisation's scale of
    zero, with which the unit starts as the identity. V is divided by L, so that its
    scale does not depend on the map.

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
        handed = (nodes.mT @ projection).unflatten(-1, x.shape[2:])  # B x S x H x W
        return x + self.norm(self.extend(handed))
