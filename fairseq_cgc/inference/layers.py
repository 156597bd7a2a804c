"""Layers that the encoder and the decoder share, for inference; parameters have fairseq's names.

Shape letters: B sentences, T positions, C channels, H heads, K kernel width.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_cgc.core.pooling import zero_padding
from fairseq_cgc.inference.decoding import predicted_kernels
from fairseq_cgc.inference.dictionary import PAD
from fairseq_cgc.inference.model_options import ModelOptions


class PackedLinear(nn.Linear):
    """A linear layer that is fast for few rows on a CPU.

    Otherwise the whole weight is rearranged at each call, which takes longer than the product with
    the few rows of a decoding step. From the first call on, a weight in bfloat16, or a large one in
    float32, is kept a second time as oneDNN arranges it.
    """

    _SMALLEST = 2**18  # numbers of a float32 weight for which this pays; in bfloat16 it always does
    _packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """``... x in_features`` to ``... x out_features``."""
        if self._packed is None:
            weight = self.weight
            is_small = weight.dtype == torch.float32 and weight.numel() < self._SMALLEST
            if is_small or not _can_pack(weight.device.type, weight.dtype):
                return super().forward(x)
            self._packed = torch.ops.mkldnn._reorder_linear_weight.default(weight)
        return torch.ops.mkldnn._linear_pointwise.default(
            x, self._packed, self.bias, "none", [], ""
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}  # it can be neither copied nor pickled

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        self._packed = None  # the weight moves to another device or dtype
        return super()._apply(fn, recurse)


@functools.cache
def _can_pack(device: str, dtype: torch.dtype) -> bool:
    """Whether this torch multiplies by packed weights (functions that it does not document)."""
    if device != "cpu" or dtype not in (torch.float32, torch.bfloat16):
        return False
    x = torch.ones(2, 32, dtype=dtype)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight.default(x)
        product = torch.ops.mkldnn._linear_pointwise.default(x, packed, None, "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    return bool((product == 32).all())


class DynamicConv(nn.Module):
    """Dynamic convolution: every position predicts its own kernels (Wu et al., ICLR 2019).

    Args:
        channels: C.
        kernel_size: K.
        num_heads: H; divides C.
        weight_softmax: normalise each kernel by a softmax.
    """

    def __init__(
        self, channels: int, kernel_size: int, num_heads: int, *, weight_softmax: bool = True
    ) -> None:
        super().__init__()
        self.kernel_size, self.num_heads = kernel_size, num_heads
        self.weight_softmax = weight_softmax
        self.weight_linear = nn.Linear(channels, num_heads * kernel_size, bias=False)

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Convolve x, T x B x C, centred; the result is T x B x C."""
        x = zero_padding(x, padding_mask)
        kernels = predicted_kernels(self, x).unsqueeze(-2)  # T x B x H x 1 x K
        heads = x.unflatten(2, (self.num_heads, -1))
        out = torch.zeros_like(heads)
        for tap in range(self.kernel_size):
            shift = tap - self.kernel_size // 2  # output t reads input t + shift
            left, right = max(0, -shift), len(x) - max(0, shift)
            if left < right:
                out[left:right] += (
                    kernels[left:right, ..., tap] * heads[left + shift : right + shift]
                )
        return out.flatten(2)


class Sinusoids(nn.Module):
    """Sinusoidal embeddings of positions, in the order of tensor2tensor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self._table = torch.empty(0)

    def rows(self, count: int, like: Tensor) -> Tensor:
        """The embeddings of the first ``count`` positions, count x C, in the dtype of ``like``."""
        table = self._table
        if len(table) < count or table.device != like.device or table.dtype != like.dtype:
            table = self._table = self._make(max(count, 256)).to(like)
        return table[:count]

    def _make(self, count: int) -> Tensor:
        half = self.width // 2
        rates = torch.exp(torch.arange(half).float() * -(math.log(10000) / (half - 1)))
        # As in fairseq, the first position comes after the number of the padding.
        angles = torch.arange(PAD + 1, PAD + 1 + count).float().unsqueeze(1) * rates
        table = torch.cat([angles.sin(), angles.cos()], 1)
        return F.pad(table, (0, self.width - table.shape[1]))


def make_embedding(types: int, width: int) -> nn.Embedding:
    """An embedding whose weight is not initialised.

    Initialising one on the meta device would import torch's compiler, which takes a second.
    """
    return nn.Embedding.from_pretrained(torch.empty(types, width), padding_idx=PAD)


class LearnedPositions(nn.Embedding):
    """Learned embeddings of positions; the first rows belong to the padding."""

    def rows(self, count: int, like: Tensor) -> Tensor:
        """The embeddings of the first ``count`` positions, count x C."""
        return self.weight[PAD + 1 : PAD + 1 + count]


def make_positions(
    options: ModelOptions, side: str, width: int
) -> LearnedPositions | Sinusoids | None:
    if options.no_token_positional_embeddings:
        return None
    if not getattr(options, f"{side}_learned_pos"):
        return Sinusoids(width)
    longest = getattr(
        options, "max_source_positions" if side == "encoder" else "max_target_positions"
    )
    return LearnedPositions.from_pretrained(torch.empty(longest + PAD + 1, width))
