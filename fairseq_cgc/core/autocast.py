"""Whether autocast is on, asked by what must not be computed in half precision."""

from __future__ import annotations

import torch


def is_autocast_on(device: str) -> bool:
    """Whether autocast would choose the dtype of operations on a type of device."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
