"""Pooling of a feature map of any size to a fixed grid, the context of a gate (section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: The functions for 1, 2 and 3 dimensions; each takes x, B x c x spatial, and the grid's size.
POOLS: dict[str, tuple[Callable[..., Tensor], ...]] = {
    "avg": (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    "max": (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
}


def pool_to_grid(x: Tensor, grid_size: Sequence[int], pool: Callable[..., Tensor]) -> Tensor:
    """Pool B x c x spatial to B x c x grid with one of :data:`POOLS`."""
    if not torch.onnx.is_in_onnx_export():
        return pool(x, grid_size)
    # ONNX has no adaptive pooling; bins are boxes, so that one dimension follows the other.
    for dim, bins in enumerate(grid_size, start=2):
        x = _pool_last(x.transpose(dim, -1), bins, pool in POOLS["avg"]).transpose(dim, -1)
    return x


def _pool_last(x: Tensor, bins: int, is_mean: bool) -> Tensor:
    """Pool the last dimension, n, whose bin i covers floor(i n / bins) to ceil((i+1) n / bins)."""
    n: Any = x.shape[-1]  # a tensor under torch.jit.trace
    index = torch.arange(bins, device=x.device).unsqueeze(1)
    start = torch.div(index * n, bins, rounding_mode="floor")
    end = torch.div((index + 1) * n + bins - 1, bins, rounding_mode="floor")
    position = torch.arange(n, device=x.device)
    inside = (position >= start) & (position < end)  # bins x n
    if is_mean:
        return x @ (inside.to(x.dtype) / (end - start)).t()
    return x.unsqueeze(-2).masked_fill(~inside, -torch.inf).amax(-1)
