"""The convolutions of the layers: gated in the encoder, fairseq's or gated in the decoder.

The paper leaves the decoder without gates, because the whole target is not known while it is being
produced. The source is, before the first word: with ``--decoder-gate source``, one gate for each
sentence is computed from the encoder's output. Shape letters: T target positions, B sentences,
C channels, H heads, K kernel.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from fairseq.modules.lightweight_convolution import LightweightConv1dTBC
from torch import Tensor, nn

from fairseq_cgc.core import CGLightConv, LightConv, light_convolution
from fairseq_cgc.core.sentence_gate import make_sentence_gate
from fairseq_cgc.inference.decoding import decoder_kernels
from fairseq_cgc.models.config import NO_GATE


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
        return self.convolve_at_once(x, decoder_kernels(self))

    def convolve_at_once(self, x: Tensor, kernels: Tensor) -> Tensor:
        """Convolve all positions of x, T x B x C, with kernels of 1 or B x H x K."""
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

    def forward(  # type: ignore[override]
        self, x: Tensor, kernels: Tensor, incremental_state: dict[str, Any] | None = None
    ) -> Tensor:
        """Convolve.

        Args:
            x: T x B x C; T is 1 with ``incremental_state``.
            kernels: B x H x K, from :func:`decoder_kernels`.
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


def encoder_convolution(args: Namespace, plain: Any) -> nn.Module:
    """The convolution that takes the place of fairseq's in an encoder layer."""
    with _gates_stream():
        if args.encoder_gate_target == NO_GATE:
            return take_over(LightConv, plain)
        gate = {"gate_target": args.encoder_gate_target, "gate_norm": args.encoder_gate_norm}
        return take_over(CGLightConv, plain, **gate)


def add_source_gates(layers: nn.ModuleList, args: Namespace) -> None:
    """Give the layers of a decoder gated convolutions; layers with K = 1 stay without a gate."""
    with _gates_stream():
        for layer in layers:
            plain: Any = layer.conv
            if plain.kernel_size > 1:
                gate_norm = args.encoder_gate_norm
                layer.conv = take_over(SourceGatedLightConv, plain, gate_norm=gate_norm)


def take_over(kind: Any, plain: Any, **options: Any) -> nn.Module:
    """A convolution of another kind with the shape, weight and dropout of fairseq's ``plain``.

    The dropout obeys --retain-dropout.
    """
    conv = kind(
        plain.input_size,
        plain.kernel_size,
        num_heads=plain.num_heads,
        weight_softmax=plain.weight_softmax,
        **options,
    )
    conv.weight_dropout_module = plain.weight_dropout_module
    # fairseq's CUDA layer, where it was compiled, stores H x K.
    conv.weight = nn.Parameter(plain.weight.detach().view_as(conv.weight))
    return conv


@contextmanager
def _gates_stream() -> Iterator[None]:
    """A random stream for gates, which depends on the seed but does not advance the main one.

    With the same seed, everything that LightConv has too then starts from the same values as in
    LightConv.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, ())))
        yield
