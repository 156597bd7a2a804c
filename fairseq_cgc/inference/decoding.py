"""Incremental decoding: the state a decoder keeps between steps, and one step of a layer.

Nothing is copied for the hypotheses of a sentence: the encoder's keys and values exist once per
sentence, and the inputs of the convolutions stay where they were written.

Shape letters: S sentences, N rows of a step (sentences times beam, in the order of the sentences),
T source positions, C channels, H heads, D channels of an attention head, K kernel width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_cgc.core.sentence_gate import gate_by_source
from fairseq_cgc.inference.convolution_inputs import ConvolutionInputs


class DecoderState:
    """All that the layers of a decoder keep from step to step.

    Args:
        layers: the decoder's layers, with fairseq's parameter names.
        encoder_states: T x S x C.
        padding_mask: S x T, True at padding, or None.
        rows: N at the first step; S by default.

    Attributes:
        steps: the number of steps begun so far.
        keep_weights: whether to compute :attr:`weights`.
        weights: N x T, the last layer's attention weights at the newest step.
    """

    def __init__(
        self,
        layers: Iterable[Any],
        encoder_states: Tensor,
        padding_mask: Tensor | None,
        rows: int | None = None,
    ) -> None:
        layers = list(layers)
        self.steps = 0
        self.attention = EncoderKeysValues(
            [layer.encoder_attn for layer in layers], encoder_states, padding_mask
        )
        self.inputs = ConvolutionInputs(
            [
                None
                if hasattr(layer.conv, "weight_linear")  # they depend on the input
                else decoder_kernels(layer.conv, encoder_states, padding_mask).to(
                    layer.conv.weight.dtype
                )
                for layer in layers
            ],
            [layer.conv.kernel_size for layer in layers],
            layers[0].conv.num_heads,
            encoder_states.new_zeros(
                encoder_states.shape[1] if rows is None else rows, layers[0].linear2.in_features
            ),
        )
        self.keep_weights = False
        self.weights: Tensor | None = None

    def begin_step(self) -> None:
        """Start a step; call this before the layers."""
        self.steps += 1
        self.inputs.begin_step()

    def reorder(self, rows: Tensor, sentences: Tensor | None = None) -> None:
        """See :meth:`ConvolutionInputs.reorder`."""
        if sentences is not None:
            self.attention.select(sentences)
        self.inputs.reorder(rows, sentences)


def decoder_kernels(
    conv: Any, encoder_states: Tensor | None = None, padding_mask: Tensor | None = None
) -> Tensor:
    """The kernels of a lightweight convolution, after the softmax.

    Args:
        conv: the convolution.
        encoder_states: T x S x C, for a convolution that the source gates; its width need not be
            the convolution's.
        padding_mask: S x T, True at padding, or None.

    Returns:
        1 x H x K, or S x H x K with gates; in float32 where the weight is not wider.
    """
    # fairseq's CUDA layer, where it was compiled, stores H x K.
    weight = conv.weight.view(1, conv.num_heads, conv.kernel_size)
    wide = torch.promote_types(weight.dtype, torch.float32)
    if conv.weight_softmax:
        weight = weight.softmax(2, dtype=torch.float32)  # as fairseq takes it
    weight = weight.to(wide)
    if hasattr(conv, "gate"):
        assert encoder_states is not None
        weight = weight * gate_by_source(conv.gate, encoder_states, padding_mask).to(wide)
    return weight


def predicted_kernels(conv: Any, x: Tensor) -> Tensor:
    """The kernels that a dynamic convolution predicts from its input: ... x C to ... x H x K."""
    weight = conv.weight_linear(x).unflatten(-1, (conv.num_heads, conv.kernel_size))
    return weight.softmax(-1) if conv.weight_softmax else weight


def decode_layer(layer: Any, number: int, x: Tensor, state: DecoderState) -> Tensor:
    """One step of a LightConv decoder layer.

    Args:
        layer: the layer, with fairseq's parameter names.
        number: its place in the decoder, from 0.
        x: N x C.
        state: the state of this search.

    Returns:
        N x C.
    """
    norm_first = layer.normalize_before
    inputs = layer.linear1(layer.conv_layer_norm(x) if norm_first else x)
    if layer.act is not None:
        inputs = layer.act(inputs)
    kernels = predicted_kernels(layer.conv, inputs) if state.inputs.is_dynamic(number) else None
    convolved = state.inputs.convolve(number, inputs, kernels)
    if getattr(layer.conv, "bias", None) is not None:
        convolved = convolved + layer.conv.bias
    x = x + layer.linear2(convolved)
    if not norm_first:
        x = layer.conv_layer_norm(x)
    query = layer.encoder_attn.q_proj(layer.encoder_attn_layer_norm(x) if norm_first else x)
    if state.keep_weights:
        state.weights = state.attention.weigh(number, query)
    x = x + layer.encoder_attn.out_proj(state.attention.attend(number, query))
    if not norm_first:
        x = layer.encoder_attn_layer_norm(x)
    x = x + layer.fc2(torch.relu_(layer.fc1(layer.final_layer_norm(x) if norm_first else x)))
    return x if norm_first else layer.final_layer_norm(x)


class EncoderKeysValues:
    """Each layer's keys and values of the encoder's output, once per sentence.

    Args:
        attentions: the encoder attention of each layer.
        encoder_states: T x S x C.
        padding_mask: S x T, True at padding, or None.
    """

    def __init__(
        self, attentions: Sequence[Any], encoder_states: Tensor, padding_mask: Tensor | None
    ) -> None:
        time, count, _ = encoder_states.shape
        self.heads = (attentions[0].num_heads, attentions[0].head_dim)

        def by_head(x: Tensor) -> Tensor:  # S x H x T x D
            return x.view(time, count, *self.heads).permute(1, 2, 0, 3).contiguous()

        self.keys = [by_head(a.k_proj(encoder_states)) for a in attentions]
        self.values = [by_head(a.v_proj(encoder_states)) for a in attentions]
        #: S x 1 x 1 x T, added to the scores: minus infinity at padding.
        self.mask: Tensor | None = None
        if padding_mask is not None:
            self.mask = encoder_states.new_zeros(count, 1, 1, time)
            self.mask.masked_fill_(padding_mask.view_as(self.mask), float("-inf"))

    def attend(self, number: int, query: Tensor) -> Tensor:
        """Attend with all hypotheses of a sentence at once: N x C to N x C."""
        context = F.scaled_dot_product_attention(
            self._by_sentence(query), self.keys[number], self.values[number], self.mask
        )
        return context.transpose(1, 2).reshape(query.shape)

    def weigh(self, number: int, query: Tensor) -> Tensor:
        """The attention weights of :meth:`attend`, averaged over the heads: N x T."""
        scores = self._by_sentence(query) @ self.keys[number].transpose(2, 3)
        scores = scores * self.heads[1] ** -0.5
        if self.mask is not None:
            scores = scores + self.mask
        return scores.softmax(-1, dtype=torch.float32).mean(1).flatten(0, 1)

    def select(self, sentences: Tensor) -> None:
        """Keep only these sentences."""
        self.keys = [keys.index_select(0, sentences) for keys in self.keys]
        self.values = [values.index_select(0, sentences) for values in self.values]
        self.mask = None if self.mask is None else self.mask.index_select(0, sentences)

    def _by_sentence(self, query: Tensor) -> Tensor:
        """N x C to S x H x N/S x D."""
        return query.view(len(self.keys[0]), -1, *self.heads).transpose(1, 2)
