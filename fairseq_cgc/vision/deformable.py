"""Modulated deformable convolution, in plain torch or by torchvision's operator."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ModulatedDeformConv2d(nn.Conv2d):
    """Zhu et al., "Deformable ConvNets v2" (CVPR 2019), equation 1; a drop-in ``nn.Conv2d``.

    ``y(p) = sum_k W_k x(p + p_k + dp_k) dm_k``: position k of the kernel is moved by dp_k and
    weighted by dm_k in (0, 1). Both come from a convolution ``offset`` of the input with the same
    kernel size, stride, padding and dilation. It starts at zero: no offsets, every dm_k = 1/2.
    The paper trains it at a tenth of the learning rate.

    Arguments are those of ``nn.Conv2d``, with the padding as numbers. Grouped convolution and
    padding modes other than zeros are not supported.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, bias=bias
        )
        maps = 3 * self.kernel_size[0] * self.kernel_size[1]
        self.offset = nn.Conv2d(in_channels, maps, kernel_size, stride, padding, dilation)
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)
        self._operator = _torchvision_operator()

    def forward(self, x: Tensor) -> Tensor:
        """B x in_channels x H x W to B x out_channels x H' x W'."""
        assert not isinstance(self.padding, str)
        positions = self.kernel_size[0] * self.kernel_size[1]
        offsets, modulation = self.offset(x).split([2 * positions, positions], dim=1)
        # The meta device and flop counters know torch's own operators only.
        operator = deform_conv2d if x.is_meta or self._operator is None else self._operator
        return operator(
            x,
            offsets,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            torch.sigmoid(modulation),
        )


def deform_conv2d(
    x: Tensor,
    offsets: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    modulation: Tensor,
) -> Tensor:
    """Modulated deformable convolution by bilinear sampling and one matrix product.

    The input is zero outside its borders. Arguments and layout are those of
    ``torchvision.ops.deform_conv2d``.

    Args:
        x: B x c x H x W.
        offsets: B x 2K x H' x W', for each of the K kernel positions its shifts down and right,
            in pixels.
        weight: o x c x kernel.
        bias: o, or none.
        stride, padding, dilation: two numbers each.
        modulation: B x K x H' x W'.

    Returns:
        B x o x H' x W'.
    """
    height, width = x.shape[2:]
    positions, (out_height, out_width) = modulation.shape[1], modulation.shape[2:]
    # Half precision cannot resolve places on the map.
    sampling_dtype = torch.promote_types(x.dtype, torch.float32)

    def places(axis: int, count: int) -> Tensor:
        """Undeformed places along an axis: kernel size x count of outputs."""
        kernel = torch.arange(weight.shape[2 + axis], device=x.device) * dilation[axis]
        outputs = torch.arange(count, device=x.device) * stride[axis] - padding[axis]
        return (kernel[:, None] + outputs).to(sampling_dtype)

    down, right = offsets.to(sampling_dtype).unflatten(1, (positions, 2)).unbind(2)
    # B x K x H' x W'; K runs over the kernel's rows, then its columns.
    grid_y = places(0, out_height)[:, None, :, None]
    grid_x = places(1, out_width)[None, :, None, :]
    at_y = grid_y.expand(-1, weight.shape[3], -1, out_width).flatten(0, 1) + down
    at_x = grid_x.expand(weight.shape[2], -1, out_height, -1).flatten(0, 1) + right
    # grid_sample counts from -1 to 1, at the outer edges of the first and last pixel.
    grid = torch.stack([(2 * at_x + 1) / width - 1, (2 * at_y + 1) / height - 1], dim=-1)
    sampled = F.grid_sample(
        x.to(sampling_dtype), grid.flatten(1, 2), mode="bilinear", align_corners=False
    )  # B x c x KH' x W'
    sampled = sampled.unflatten(2, (positions, out_height)) * modulation.unsqueeze(1)
    columns = sampled.flatten(3).flatten(1, 2).to(weight.dtype)  # B x cK x H'W'
    out = (weight.flatten(1) @ columns).unflatten(2, (out_height, out_width))
    return out if bias is None else out + bias.to(out.dtype)[:, None, None]


def _torchvision_operator() -> Callable[..., Any] | None:
    try:
        return importlib.import_module("torchvision.ops").deform_conv2d
    except (ImportError, RuntimeError, OSError):  # absent, or built for another torch
        return None
