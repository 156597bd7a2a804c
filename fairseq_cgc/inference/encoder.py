"""The encoder of a LightConv model, for inference; its parameters have fairseq's names.

Shape letters: B sentences, T positions, C channels, H heads, K kernel width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fairseq_cgc.core.lightconv import CGLightConv, LightConv
from fairseq_cgc.inference.layers import DynamicConv, make_embedding, make_positions
from fairseq_cgc.inference.model_options import ModelOptions


class EncoderOutput(NamedTuple):
    """``states`` is T x B x C; ``padding_mask`` is B x T, True at padding, or None."""

    states: Tensor
    padding_mask: Tensor | None


class Encoder(nn.Module):
    """The encoder: embeddings, positions, layers of convolution and feed-forward blocks."""

    def __init__(self, options: ModelOptions, types: int) -> None:
        super().__init__()
        width = options.encoder_embed_dim
        self.embed_tokens = make_embedding(types, width)
        self.embed_positions = make_positions(options, "encoder", width)
        self.layers = nn.ModuleList(
            EncoderLayer(options, size) for size in options.encoder_kernel_size_list
        )
        self.layer_norm = nn.LayerNorm(width) if options.encoder_normalize_before else None

    def forward(self, tokens: Tensor, padding_mask: Tensor | None) -> EncoderOutput:
        """Encode a batch.

        Args:
            tokens: B x T, padded on the right.
            padding_mask: B x T, True at padding; None if nothing is padded.
        """
        x = self.embed_tokens(tokens.t()) * math.sqrt(self.embed_tokens.embedding_dim)
        if self.embed_positions is not None:
            x += self.embed_positions.rows(len(x), x).unsqueeze(1)
        for layer in self.layers:
            x = layer(x, padding_mask)
        return EncoderOutput(x if self.layer_norm is None else self.layer_norm(x), padding_mask)


class EncoderLayer(nn.Module):
    """fairseq's LightConv encoder layer with any of this package's convolutions."""

    def __init__(self, options: ModelOptions, kernel_size: int) -> None:
        super().__init__()
        width, channels = options.encoder_embed_dim, options.encoder_conv_dim
        self.normalize_before = options.encoder_normalize_before
        self.linear1 = nn.Linear(width, channels * (2 if options.encoder_glu else 1))
        self.act = nn.GLU() if options.encoder_glu else None
        self.conv = _encoder_convolution(options, kernel_size)
        self.linear2 = nn.Linear(channels, width)
        self.fc1 = nn.Linear(width, options.encoder_ffn_embed_dim)
        self.fc2 = nn.Linear(options.encoder_ffn_embed_dim, width)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """``x`` and the result are T x B x C; ``padding_mask`` is B x T, True at padding."""
        norm_first = self.normalize_before
        inputs = self.linear1(self.layer_norm1(x) if norm_first else x)
        if self.act is not None:
            inputs = self.act(inputs)
        x = x + self.linear2(self.conv(inputs, padding_mask))
        x = x if norm_first else self.layer_norm1(x)
        x = x + self.fc2(torch.relu_(self.fc1(self.layer_norm2(x) if norm_first else x)))
        return x if norm_first else self.layer_norm2(x)


def _encoder_convolution(options: ModelOptions, kernel_size: int) -> nn.Module:
    shape = (options.encoder_conv_dim, kernel_size, options.encoder_attention_heads)
    if options.encoder_conv_type == "dynamic":
        return DynamicConv(*shape, weight_softmax=options.weight_softmax)
    if options.encoder_gate_target == "none":
        return LightConv(*shape, weight_softmax=options.weight_softmax)
    return CGLightConv(
        *shape,
        weight_softmax=options.weight_softmax,
        gate_target=options.encoder_gate_target,
        gate_norm=options.encoder_gate_norm,
    )
