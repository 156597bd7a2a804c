"""What autocast asks of operations that choose their dtype themselves."""

from __future__ import annotations

import torch
from torch import Tensor


def is_autocast_on(device: str) -> bool:
    """Whether autocast would choose the dtype of operations on a type of device."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def to_autocast_dtype(x: Tensor) -> Tensor:
    """x in the dtype in which autocast computes a convolution; x itself where it is off."""
    device = x.device.type
    if x.dtype == torch.float64 or not is_autocast_on(device):
        return x
    return x.to(torch.get_autocast_dtype(device))
