"""fairseq's LightConv layers: gated in the encoder, faster incremental steps in the decoder."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch
from fairseq.models.lightconv import LightConvDecoderLayer, LightConvEncoderLayer
from fairseq.modules import FairseqDropout
from fairseq.modules.lightweight_convolution import LightweightConv1dTBC
from torch import Tensor, nn

from fairseq_cgc.core.dropout import dropout
from fairseq_cgc.inference.decoding import decode_layer, decoder_kernels
from fairseq_cgc.models.beam_state import Generation
from fairseq_cgc.models.convolutions import (
    DecoderLightConv,
    SourceGatedLightConv,
    encoder_convolution,
    take_over,
)


class LightConvCGCEncoderLayer(LightConvEncoderLayer):
    """fairseq's LightConv encoder layer with :class:`CGLightConv` as its convolution.

    With the gate target "none" the convolution is :class:`LightConv`, and the layer computes what
    fairseq's does.

    Args:
        args: resolved options.
        kernel_size: K, odd.
    """

    def __init__(self, args: Namespace, kernel_size: int) -> None:
        super().__init__(args, kernel_size)
        plain: Any = self.conv
        self.conv: nn.Module = encoder_convolution(args, plain)

    def forward(self, x: Tensor, encoder_padding_mask: Tensor | None = None) -> Tensor:
        """Encode one layer.

        Args:
            x: T x B x C.
            encoder_padding_mask: B x T, True at padding.

        Returns:
            T x B x C.
        """

        def convolve(x: Tensor) -> Tensor:
            return self.linear2(self.conv(_before_convolution(self, x), encoder_padding_mask))

        x = _residual(self, x, self.layer_norm1, convolve)
        return _feed_forward(self, x, self.layer_norm2)


class LightConvCGCDecoderLayer(LightConvDecoderLayer):
    """fairseq's layer with this package's convolution, and its step in a :class:`Generation`.

    Args:
        args: resolved options.
        number: of the layer in its decoder, from 0.
        plain: fairseq's layer, whose parameters are copied.
        dictionary: the target dictionary.
    """

    def __init__(
        self, args: Namespace, number: int, plain: LightConvDecoderLayer, dictionary: Any
    ) -> None:
        super().__init__(
            args, kernel_size=args.decoder_kernel_size_list[number], dictionary=dictionary
        )
        self.load_state_dict(plain.state_dict())
        self.number = number
        conv: Any = self.conv
        if type(conv) is LightweightConv1dTBC:  # neither dynamic nor fairseq's CUDA layer
            self.conv: nn.Module = take_over(DecoderLightConv, conv, padding_l=conv.padding_l)

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

        In a :class:`Generation`, x is 1 x N x C, and the encoder's output is not read. In other
        incremental decoding (with gradients or --retain-dropout), the encoder's output has a row
        for each hypothesis.
        """
        generation = Generation.of(incremental_state)
        if generation is not None:
            state = generation.state
            state.keep_weights = self.need_attn
            x = decode_layer(self, self.number, x[0], state).unsqueeze(0)
            return x, state.weights.unsqueeze(1) if state.weights is not None else None
        if isinstance(self.conv, SourceGatedLightConv):
            assert encoder_out is not None
            return self._forward_gated(x, encoder_out, encoder_padding_mask, incremental_state)
        return super().forward(
            x, encoder_out, encoder_padding_mask, incremental_state, *states, **more_states
        )

    def _forward_gated(
        self,
        x: Tensor,
        encoder_out: Tensor,
        encoder_padding_mask: Tensor | None,
        incremental_state: dict[str, Any] | None,
    ) -> tuple[Tensor, Tensor | None]:
        kernels = decoder_kernels(self.conv, encoder_out, encoder_padding_mask)
        weights: Tensor | None = None

        def convolve(x: Tensor) -> Tensor:
            x = _before_convolution(self, x)
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

        x = _residual(self, x, self.conv_layer_norm, convolve)
        x = _residual(self, x, self.encoder_attn_layer_norm, attend)
        return _feed_forward(self, x, self.final_layer_norm), weights


class FastDropout(FairseqDropout):
    """fairseq's module with the masks of :func:`fairseq_cgc.core.dropout.dropout`."""

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        """Drop elements of x in training, and in inference where --retain-dropout asks for it."""
        if self.p > 0 and (self.training or self.apply_during_inference):
            return dropout(x, self.p, inplace=inplace)
        return x


def use_fast_dropout(model: nn.Module) -> None:
    """Replace the dropouts of a new model; their names and probabilities stay as they are."""
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            if type(module) is FairseqDropout:
                setattr(parent, name, FastDropout(module.p, module.module_name))


def _residual(layer: Any, x: Tensor, norm: nn.Module, block: Callable[[Tensor], Tensor]) -> Tensor:
    if layer.normalize_before:
        return x + layer.dropout_module(block(norm(x)))
    return norm(x + layer.dropout_module(block(x)))


def _before_convolution(layer: Any, x: Tensor) -> Tensor:
    x = layer.linear1(layer.input_dropout_module(x))
    return x if layer.act is None else layer.act(x)


def _feed_forward(layer: Any, x: Tensor, norm: nn.Module) -> Tensor:
    def block(x: Tensor) -> Tensor:
        return layer.fc2(layer.relu_dropout_module(torch.relu(layer.fc1(x))))

    return _residual(layer, x, norm, block)
