"""Lightweight convolution with a kernel per sentence.

Shape letters: B batch, T time, C channels, H heads, R = C / H channels per head, K kernel.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def light_convolution(
    x: Tensor, kernel: Tensor, *, dropout: float = 0.0, training: bool = False
) -> Tensor:
    """Convolve every channel of a head with that head's kernel, zeros beyond both ends.

    The kernel becomes a T x T band matrix and the convolution one batched matrix product,
    the fastest way for sentences; time and memory grow with T squared.

    Args:
        x: T x B x C, zero at padded positions.
        kernel: B x H x K, or 1 x H x K for one kernel for all sentences; K is odd.
        dropout: probability of DropConnect, drawn for each output position by itself as
            fairseq's lightweight convolution draws it.
        training: whether DropConnect is active.

    Returns:
        T x B x C.
    """
    time, batch, channels = x.shape
    kernel_batch, num_heads, kernel_size = kernel.shape
    radius = kernel_size // 2
    # Entry (t, s) of the band is tap s - t + radius: every row is the row below it moved by
    # one, so all rows are windows of one padded (or, where T < K, cropped) kernel.
    windows = F.pad(kernel, (time - 1 - radius, time - 1 - radius)).unfold(2, time, 1)
    band = windows.flip(2).expand(batch, num_heads, time, time)  # B x H x T x T
    band = F.dropout(band.reshape(batch * num_heads, time, time), dropout, training)
    x = x.reshape(time, batch * num_heads, channels // num_heads).transpose(0, 1)  # BH x T x R
    return (band @ x).transpose(0, 1).reshape(time, batch, channels)
