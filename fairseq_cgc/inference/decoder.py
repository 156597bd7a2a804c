"""The decoder of a LightConv model, one position at a time; parameters have fairseq's names.

Shape letters: S sentences, N rows of a decoding step (the sentences times the beam), T positions of
the source, C channels, H heads, K kernel width, V types of the target dictionary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fairseq_cgc.core.sentence_gate import make_sentence_gate
from fairseq_cgc.inference.decoding import DecoderState, decode_layer
from fairseq_cgc.inference.encoder import EncoderOutput
from fairseq_cgc.inference.layers import DynamicConv, PackedLinear, make_embedding, make_positions
from fairseq_cgc.inference.model_options import ModelOptions


class Decoder(nn.Module):
    """The decoder, one position at a time."""

    def __init__(self, options: ModelOptions, types: int) -> None:
        super().__init__()
        width = options.decoder_embed_dim
        own, out = options.decoder_input_dim, options.decoder_output_dim
        self.max_positions, self.scale = options.max_target_positions, math.sqrt(width)
        self.embed_tokens = make_embedding(types, own)
        self.project_in_dim = PackedLinear(own, width, bias=False) if own != width else None
        self.embed_positions = make_positions(options, "decoder", width)
        self.layers = nn.ModuleList(
            DecoderLayer(options, size) for size in options.decoder_kernel_size_list
        )
        self.layer_norm = nn.LayerNorm(width) if options.decoder_normalize_before else None
        self.project_out_dim = PackedLinear(width, out, bias=False) if out != width else None
        self.output_projection: nn.Module | None = None
        self.adaptive_softmax: AdaptiveSoftmax | None = None
        if options.adaptive_softmax_cutoff is not None:
            self.adaptive_softmax = AdaptiveSoftmax(types, out, options.adaptive_softmax_cutoff)
        else:
            self.output_projection = PackedLinear(out, types, bias=False)

    def begin(self, encoded: EncoderOutput) -> DecoderState:
        """The state before the first step, with one row per sentence."""
        return DecoderState(self.layers, encoded.states, encoded.padding_mask)

    def step(self, tokens: Tensor, state: DecoderState, temperature: float = 1.0) -> Tensor:
        """The scores of the next token.

        Args:
            tokens: N, the newest token of every row.
            state: the result of :meth:`begin`; advanced by one position.
            temperature: what the scores are divided by.

        Returns:
            N x V logits, or log-probabilities with an adaptive softmax, which a log-softmax leaves
            as they are.
        """
        x = self.embed_tokens(tokens) * self.scale
        if self.project_in_dim is not None:
            x = self.project_in_dim(x)
        if self.embed_positions is not None:
            x += self.embed_positions.rows(state.steps + 1, x)[state.steps]
        state.begin_step()
        for number, layer in enumerate(self.layers):
            x = decode_layer(layer, number, x, state)
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        if self.project_out_dim is not None:
            x = self.project_out_dim(x)
        if temperature != 1:  # divides each of an adaptive softmax's classes alike, as in fairseq
            x = x / temperature
        if self.adaptive_softmax is not None:
            return self.adaptive_softmax(x)
        assert self.output_projection is not None
        return self.output_projection(x)


class DecoderLayer(nn.Module):
    """Parameters of fairseq's LightConv decoder layer; :func:`decode_layer` computes it."""

    def __init__(self, options: ModelOptions, kernel_size: int) -> None:
        super().__init__()
        width, channels = options.decoder_embed_dim, options.decoder_conv_dim
        heads = options.decoder_attention_heads
        self.normalize_before = options.decoder_normalize_before
        self.linear1 = PackedLinear(width, channels * (2 if options.decoder_glu else 1))
        self.act = nn.GLU() if options.decoder_glu else None
        convolution = DynamicConv if options.decoder_conv_type == "dynamic" else DecoderLightConv
        self.conv = convolution(channels, kernel_size, heads, weight_softmax=options.weight_softmax)
        if options.decoder_gate == "source" and kernel_size > 1:
            self.conv.gate = make_sentence_gate(heads, kernel_size, options.encoder_gate_norm)
        self.linear2 = PackedLinear(channels, width)
        self.conv_layer_norm = nn.LayerNorm(width)
        self.encoder_attn = EncoderAttention(width, options.encoder_embed_dim, heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = PackedLinear(width, options.decoder_ffn_embed_dim)
        self.fc2 = PackedLinear(options.decoder_ffn_embed_dim, width)
        self.final_layer_norm = nn.LayerNorm(width)


class EncoderAttention(nn.Module):
    """Parameters of multi-head attention to the encoder's output."""

    def __init__(self, width: int, encoder_width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, width // num_heads
        self.q_proj = PackedLinear(width, width)
        self.k_proj = nn.Linear(encoder_width, width)
        self.v_proj = nn.Linear(encoder_width, width)
        self.out_proj = PackedLinear(width, width)


class DecoderLightConv(nn.Module):
    """Parameters of the decoder's lightweight convolution; K may also be even.

    Args:
        channels: C, which the parameters do not depend on.
        kernel_size: K.
        num_heads: H.
        weight_softmax: normalise each kernel by a softmax.
    """

    def __init__(
        self, channels: int, kernel_size: int, num_heads: int, *, weight_softmax: bool = True
    ) -> None:
        super().__init__()
        self.kernel_size, self.num_heads = kernel_size, num_heads
        self.weight_softmax = weight_softmax
        self.weight = nn.Parameter(torch.empty(num_heads, 1, kernel_size))


class AdaptiveSoftmax(nn.Module):
    """Adaptive softmax: rare types have smaller matrices (Grave et al., ICML 2017).

    Args:
        types: V.
        width: channels of the input.
        cutoffs: the end of each class of types; V itself may be missing.
    """

    _FACTOR = 4  # each class is narrower than the one before it by this factor

    def __init__(self, types: int, width: int, cutoffs: tuple[int, ...]) -> None:
        super().__init__()
        self.cutoffs = list(cutoffs) if cutoffs[-1] == types else [*cutoffs, types]
        sizes = [b - a for a, b in zip(self.cutoffs, self.cutoffs[1:], strict=False)]
        self.head = PackedLinear(width, self.cutoffs[0] + len(sizes), bias=False)
        self.tail = nn.ModuleList(
            nn.Sequential(
                PackedLinear(width, width // self._FACTOR ** (i + 1), bias=False),
                nn.Identity(),  # the place of fairseq's dropout
                PackedLinear(width // self._FACTOR ** (i + 1), size, bias=False),
            )
            for i, size in enumerate(sizes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """N x C to N x V."""
        head = self.head(x).log_softmax(-1)
        first = self.cutoffs[0]
        parts = [head[:, :first]]
        for i, tail in enumerate(self.tail):
            parts.append(tail(x).log_softmax(-1) + head[:, first + i : first + i + 1])
        return torch.cat(parts, 1)
