"""Grad-CAM++ (Chattopadhay et al., WACV 2018): where a feature map speaks for a class.

Of the score S of a class (a logit) and feature maps A_k with gradients g_k = dS / dA_k, everything
at positions ij::

    a_kij = g_kij^2 / (2 g_kij^2 + (sum_ab A_kab) g_kij^3)   0 where g_kij is 0
    w_k   = sum_ij a_kij relu(exp(S) g_kij)
    L_ij  = relu(sum_k w_k A_kij)

The closed form of a_kij takes exp(S) for the class's output, non-negative maps (after a ReLU) and
a score that is piecewise linear in them. Where gates follow, the last is only nearly so. As
exp(S) scales a whole map L by one number, and a map is shown relative to its own maximum, it is
left out here: it would overflow.

Shape letters: B batch, C channels, H x W a feature map's size.
"""

from __future__ import annotations

import torch
from torch import Tensor


def grad_cam_plus_plus(maps: Tensor, gradients: Tensor) -> Tensor:
    """The heat map L of each sample, but for its factor exp(S).

    Args:
        maps: A, B x C x H x W. Of signed maps (an image before the stem) a negative sum counts as
            zero, or weights could be of any size and sign.
        gradients: g, of the same shape.

    Returns:
        B x H x W, not negative.
    """
    total = maps.sum((2, 3), keepdim=True).clamp(min=0)
    rising = gradients.clamp(min=0)
    # Where g is positive, a = 1 / (2 + total g); elsewhere the factor relu(g) is zero.
    weights = (rising / (2 + total * rising)).sum((2, 3), keepdim=True)
    return (weights * maps).sum(1).clamp(min=0)


def relative(maps: Tensor) -> Tensor:
    """Each map divided by its maximum, B x H x W; one of zeros stays."""
    largest = maps.amax((1, 2), keepdim=True)
    return torch.where(largest > 0, maps / largest, maps)
