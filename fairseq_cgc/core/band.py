"""The convolution as one matrix product: each kernel becomes a T x T band matrix."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fairseq_cgc.core.dropout import dropout


def band(x: Tensor, kernel: Tensor, padding_l: int, p: float) -> Tensor:
    """:func:`~fairseq_cgc.core.functional.light_convolution` in O(T x T) time and memory."""
    time, batch, channels = x.shape
    groups = batch * kernel.shape[1]
    # Cast only now: the kernel's gradient is a sum over the diagonals of the matrix's.
    matrix = band_matrix(kernel, time, time, padding_l).to(x.dtype)
    matrix = matrix.expand(batch, -1, -1, -1).reshape(groups, time, time)
    x = x.reshape(time, groups, channels // kernel.shape[1]).transpose(0, 1)  # BH x T x R
    return (dropout(matrix, p) @ x).transpose(0, 1).reshape(time, batch, channels)


def band_matrix(kernel: Tensor, rows: int, columns: int, shift: int) -> Tensor:
    """Entry (t, s) is tap s - t + shift of the kernel: n x H x K to n x H x rows x columns."""
    # Each row is the row below it shifted by one, so all rows are windows of one padded kernel (a
    # cropped one where the input is shorter than the kernel).
    kernel_size = kernel.shape[2]
    left, right = rows - 1 - shift, columns - kernel_size + shift
    return F.pad(kernel, (left, right)).unfold(2, columns, 1).flip(2)
