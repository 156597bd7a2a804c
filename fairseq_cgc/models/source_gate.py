"""Decoder layers whose convolutions are gated by the source sentence (--decoder-gate source).

The paper leaves the decoder without gates, because the whole target is not known while it is being
produced. The source is, before the first word: one gate for each sentence is computed from the
encoder's output. Shape letters: T target positions, S source positions, B sentences, C channels,
H heads, K kernel.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_cgc.core.sentence_gate import gate_by_source, make_sentence_gate
from fairseq_cgc.models.beam_state import Generation
from fairseq_cgc.models.decoder_layer import DecoderLightConv, LightConvCGCDecoderLayer


class SourceGatedLightConv(DecoderLightConv):
    """The decoder's lightweight convolution with kernels ``softmax(weight) * gate``.

    Args:
        input_size: C.
        kernel_size: K.
        gate_norm: see :class:`fairseq_cgc.core.CGLightConv`.
        options: of fairseq's ``LightweightConv1dTBC``.
    """

    def __init__(self, input_size: int, kernel_size: int, *, gate_norm: str, **options: Any):
        super().__init__(input_size, kernel_size, padding_l=kernel_size - 1, **options)
        self.gate = make_sentence_gate(self.num_heads, kernel_size, gate_norm)

    def kernels(self, source: Tensor | None = None, padding_mask: Tensor | None = None) -> Tensor:
        """The gated kernels of every sentence: B x H x K, in float32 at least.

        Args:
            source: S x B x C, the encoder's output; its width need not be the convolution's.
            padding_mask: B x S, True at padding.
        """
        assert source is not None
        kernel = super().kernels()
        return kernel * gate_by_source(self.gate, source, padding_mask).to(kernel.dtype)

    def forward(  # type: ignore[override]
        self, x: Tensor, kernels: Tensor, incremental_state: dict[str, Any] | None = None
    ) -> Tensor:
        """Convolve with what :meth:`kernels` returned.

        Args:
            x: T x B x C; T is 1 with ``incremental_state``.
            kernels: B x H x K.
            incremental_state: holds the last K - 1 inputs, as in fairseq's convolution.

        Returns:
            T x B x C.
        """
        if incremental_state is None:
            return self.convolve_at_once(x, kernels)
        before = self._get_input_buffer(incremental_state)
        window = x.unsqueeze(3) if before is None else torch.cat([before, x.unsqueeze(3)], 3)
        self._set_input_buffer(incremental_state, window[..., 1 - self.kernel_size :])
        taps = self.weight_dropout_module(kernels[:, :, -window.shape[3] :].to(x.dtype))
        window = window[0].unflatten(1, (self.num_heads, -1))
        return self.add_bias(torch.einsum("bhrk,bhk->bhr", window, taps).flatten(1).unsqueeze(0))


class SourceGatedDecoderLayer(LightConvCGCDecoderLayer):
    """A layer whose convolution is a :class:`SourceGatedLightConv`."""

    def forward(
        self,
        x: Tensor,
        encoder_out: Tensor | None,
        encoder_padding_mask: Tensor | None,
        incremental_state: dict[str, Any] | None,
        *states: Any,
        **more_states: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Decode one layer; arguments and results are those of :class:`LightConvCGCDecoderLayer`.

        Word by word outside a :class:`Generation` (with gradients or --retain-dropout), the
        encoder's output has a row for each hypothesis, and so have the kernels.
        """
        if Generation.of(incremental_state) is not None:
            return super().forward(x, encoder_out, encoder_padding_mask, incremental_state)
        assert encoder_out is not None
        kernels = self.conv.kernels(encoder_out, encoder_padding_mask)
        weights: Tensor | None = None

        def convolve(x: Tensor) -> Tensor:
            x = self.linear1(self.input_dropout_module(x))
            x = x if self.act is None else self.act(x)
            return self.linear2(self.conv(x, kernels, incremental_state))

        def attend(x: Tensor) -> Tensor:
            nonlocal weights
            x, weights = self.encoder_attn(
                query=x,
                key=encoder_out,
                value=encoder_out,
                key_padding_mask=encoder_padding_mask,
                incremental_state=incremental_state,
                static_kv=True,
                need_weights=not self.training and self.need_attn,
            )
            return x

        x = self._residual(x, self.conv_layer_norm, convolve)
        x = self._residual(x, self.encoder_attn_layer_norm, attend)
        x = self._residual(x, self.final_layer_norm, self._feed_forward)
        return x, weights

    def _residual(self, x: Tensor, norm: nn.Module, block: Callable[[Tensor], Tensor]) -> Tensor:
        if self.normalize_before:
            return x + self.dropout_module(block(norm(x)))
        return norm(x + self.dropout_module(block(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.relu_dropout_module(torch.relu(self.fc1(x))))


def add_source_gates(layers: nn.ModuleList, args: Namespace) -> None:
    """Turn the layers of a decoder with lightweight convolutions into gated ones.

    A layer with K = 1 stays without a gate.

    Args:
        layers: of a ``LightConvCGCDecoder``; their other parameters stay as they are.
        args: resolved options.
    """
    # A random stream of their own, as for the encoder's gates: with the same seed, everything that
    # LightConv has too starts from the same values as in LightConv.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, ())))
        for layer, kernel_size in zip(layers, args.decoder_kernel_size_list, strict=True):
            if kernel_size == 1:
                continue
            plain: Any = layer.conv
            conv = SourceGatedLightConv(
                args.decoder_conv_dim,
                kernel_size,
                gate_norm=args.encoder_gate_norm,
                num_heads=args.decoder_attention_heads,
                weight_softmax=args.weight_softmax,
            )
            conv.weight_dropout_module = plain.weight_dropout_module
            # fairseq's CUDA layer, where it was compiled, stores H x K.
            conv.weight = nn.Parameter(plain.weight.detach().view_as(conv.weight))
            layer.conv, layer.__class__ = conv, SourceGatedDecoderLayer
