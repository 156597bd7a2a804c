"""A layer of the decoder: fairseq's, and one step of it in a generation word by word.

fairseq's layers keep and reorder what they need of earlier steps each by itself. Here a
:class:`Generation` does that for all of them, and a step calls little more than torch. N is the
rows of a step: the sentences of the batch times the beam.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from fairseq.models.lightconv import LightConvDecoderLayer
from fairseq.modules.lightweight_convolution import LightweightConv1dTBC
from torch import Tensor

from fairseq_cgc.core import light_convolution
from fairseq_cgc.models.source import EncoderOut, Source
from fairseq_cgc.models.windows import Windows

_KEY = "fairseq_cgc.generation"


@dataclass
class Generation:
    """What the layers of a decoder share in a generation; it lives in the incremental state.

    Attributes:
        source: the sentences to translate.
        windows: the last inputs of the convolutions; None if these are not lightweight.
    """

    source: Source
    windows: Windows | None

    @classmethod
    def begin(
        cls, layers: Iterable[Any], encoder_out: EncoderOut, rows: int, room: int
    ) -> Generation:
        """A generation that has not made a step yet.

        Args:
            layers: of the decoder.
            encoder_out: from :func:`one_row_a_sentence`.
            rows: N of the first step.
            room: the most rows that are expected.
        """
        layers = list(layers)
        source = Source([layer.encoder_attn for layer in layers], encoder_out, rows)
        if not all(isinstance(layer.conv, DecoderLightConv) for layer in layers):
            return cls(source, None)
        (x,), masks = encoder_out["encoder_out"], encoder_out.get("encoder_padding_mask", [])
        mask = masks[0].bool() if masks else None
        kernels = [layer.conv.kernels(x, mask).to(layer.conv.weight.dtype) for layer in layers]
        return cls(source, Windows(kernels, layers[0].conv_dim, rows, room))

    def keep_in(self, incremental_state: dict[str, Any]) -> None:
        """Let :meth:`of` find this generation from now on."""
        incremental_state[_KEY] = self

    @staticmethod
    def of(incremental_state: dict[str, Any] | None) -> Generation | None:
        """The generation that goes on in this state, if there is one."""
        return None if incremental_state is None else incremental_state.get(_KEY)

    def begin_step(self) -> None:
        """To be called before the layers."""
        if self.windows is not None:
            self.windows.begin_step()

    def reorder(self, new_order: Tensor) -> None:
        """Let row i go on from what was row ``new_order[i]``."""
        stay = self.source.reorder(new_order)
        if self.windows is not None:
            self.windows.reorder(new_order, stay)


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
        x, weights = self._step(x[0], generation, incremental_state)
        return x.unsqueeze(0), weights

    def _step(
        self, x: Tensor, generation: Generation, incremental_state: dict[str, Any] | None
    ) -> tuple[Tensor, Tensor | None]:
        source, norm_first = generation.source, self.normalize_before
        inputs = self.linear1(self.conv_layer_norm(x) if norm_first else x)
        if self.act is not None:
            inputs = self.act(inputs)
        if generation.windows is None:
            convolved = self.conv(inputs.unsqueeze(0), incremental_state=incremental_state)[0]
        else:
            convolved = self.conv.add_bias(generation.windows.convolve(self.number, inputs))
        x = x + self.linear2(convolved)
        if not norm_first:
            x = self.conv_layer_norm(x)

        query = self.encoder_attn.q_proj(self.encoder_attn_layer_norm(x) if norm_first else x)
        weights = source.weigh(self.number, query).unsqueeze(1) if self.need_attn else None
        x = x + self.encoder_attn.out_proj(source.attend(self.number, query))
        if not norm_first:
            x = self.encoder_attn_layer_norm(x)

        x = x + self.fc2(torch.relu(self.fc1(self.final_layer_norm(x) if norm_first else x)))
        return x if norm_first else self.final_layer_norm(x), weights


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
