"""fairseq's decoder layer with a faster incremental step, and its lightweight convolution."""

from __future__ import annotations

from typing import Any

import torch
from fairseq.models.lightconv import LightConvDecoderLayer
from fairseq.modules.lightweight_convolution import LightweightConv1dTBC
from torch import Tensor

from fairseq_cgc.core import light_convolution
from fairseq_cgc.inference.decoding import decode_layer
from fairseq_cgc.models.beam_state import Generation


class LightConvCGCDecoderLayer(LightConvDecoderLayer):
    """fairseq's layer, and its step in a :class:`Generation`.

    Attributes:
        number: of the layer in its decoder, from 0.
    """

    number: int

    def forward(
        self,
        x: Tensor,
        encoder_out: Tensor | None,
        encoder_padding_mask: Tensor | None,
        incremental_state: dict[str, Any] | None,
        *states: Any,
        **more_states: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Decode one layer; arguments and results are fairseq's.

        In a :class:`Generation` x is 1 x N x C, and the encoder's output does not count.
        """
        generation = Generation.of(incremental_state)
        if generation is None:
            return super().forward(
                x, encoder_out, encoder_padding_mask, incremental_state, *states, **more_states
            )
        state = generation.state
        state.keep_weights = self.need_attn
        x = decode_layer(self, self.number, x[0], state).unsqueeze(0)
        return x, state.weights.unsqueeze(1) if state.weights is not None else None


class DecoderLightConv(LightweightConv1dTBC):
    """fairseq's lightweight convolution; all positions at once are computed by this package."""

    def forward(
        self,
        x: Tensor,
        incremental_state: dict[str, Any] | None = None,
        unfold: bool = False,
    ) -> Tensor:
        """Convolve; arguments and result (T x B x C) are fairseq's."""
        if incremental_state is not None or unfold:
            return super().forward(x, incremental_state, unfold)
        return self.convolve_at_once(x, self.kernels())

    def convolve_at_once(self, x: Tensor, kernels: Tensor) -> Tensor:
        """All positions of x, T x B x C, with kernels of 1 or B x H x K."""
        dropout = self.weight_dropout_module
        return self.add_bias(
            light_convolution(
                x,
                kernels,
                padding_l=self.padding_l,
                dropout=dropout.p,
                training=dropout.training or dropout.apply_during_inference,
            )
        )

    def add_bias(self, x: Tensor) -> Tensor:
        """Add the bias, if there is one."""
        return x if self.bias is None else x + self.bias

    def kernels(self, source: Tensor | None = None, padding_mask: Tensor | None = None) -> Tensor:
        """The kernels after the softmax: 1 x H x K, the same for every source.

        In float32 (as fairseq takes its softmax) where the weight is not wider.
        """
        kernel = self.weight.view(1, self.num_heads, self.kernel_size)
        dtype = torch.promote_types(kernel.dtype, torch.float32)
        if not self.weight_softmax:
            return kernel.to(dtype)
        return kernel.softmax(2, dtype=torch.float32).to(dtype)
