"""The convolution in plain torch operations: a window of K inputs for every position.

It is slower than the other methods and needs K times the input's memory, but every transform,
tracer and exporter of torch can handle it, and no step of it is specialised to the length.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def unfolded(x: Tensor, kernel: Tensor, padding_l: int, dropout: float) -> Tensor:
    """:func:`~fairseq_cgc.core.functional.light_convolution` in O(T x K) time and memory."""
    num_heads, kernel_size = kernel.shape[1:]
    time, batch = x.shape[:2]
    kernel = kernel.to(x.dtype)
    if dropout > 0.0:
        taps = F.dropout(kernel.expand(time, batch, num_heads, kernel_size), dropout)
    else:
        taps = kernel.unsqueeze(0)
    start = torch.arange(time, device=x.device).unsqueeze(1)  # T x 1
    positions = start + torch.arange(kernel_size, device=x.device)
    padded = F.pad(x, (0, 0, 0, 0, padding_l, kernel_size - 1 - padding_l))
    windows = padded[positions].unflatten(3, (num_heads, -1))  # T x K x B x H x R
    return torch.einsum("tkbhr,tbhk->tbhr", windows, taps).flatten(2)
