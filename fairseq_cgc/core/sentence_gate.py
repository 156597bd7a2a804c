"""The context gate of a sentence, for lightweight convolutions (section 4.4).

Shape letters: B batch, T time, C channels, H heads, K kernel. A ``padding_mask`` is B x T, True at
padding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, fx, nn

from fairseq_cgc.core.gate import ContextGate
from fairseq_cgc.core.pooling import average_heads, pool_positions, zero_padding
from fairseq_cgc.support.errors import UserError


class GateTarget(NamedTuple):
    """What a gate multiplies.

    Attributes:
        modulate: the definition: the modulated kernels from the weight, the gate (both ... x K) and
            the function that normalises a weight. The reference uses it too.
        is_fused: whether the Triton kernels have it, in ``apply_gate`` and
            ``apply_gate_backward`` of ``core/gpu/gate.py``. Without, the gate and the
            convolution are computed one after the other on a GPU too.
    """

    modulate: Callable[[Tensor, Tensor, Callable[[Tensor], Tensor]], Tensor]
    is_fused: bool = False


#: Every gate target by its name.
TARGETS = {
    "kernel": GateTarget(lambda weight, gate, normalise: normalise(weight) * gate, is_fused=True),
    "logits": GateTarget(lambda weight, gate, normalise: normalise(weight * gate), is_fused=True),
}
GATE_TARGETS = tuple(TARGETS)
GATE_NORMS = ("latent", "heads")


def make_sentence_gate(num_heads: int, kernel_size: int, gate_norm: str) -> ContextGate:
    """The gate of H kernels of size K: B x H x 3K to B x H x 1 x K.

    Raises:
        UserError: if ``gate_norm`` is not one of :data:`GATE_NORMS`.
    """
    if gate_norm not in GATE_NORMS:
        raise UserError(f"gate_norm must be one of {GATE_NORMS}, but is {gate_norm!r}")
    return ContextGate(
        num_heads,
        num_heads,
        kernel_size,
        channel_interaction=False,
        grid_size=(3 * kernel_size,),
        norm="layer" if gate_norm == "latent" else gate_norm,
        init="xavier",
    )


def gate_sentences(
    gate: nn.Module, heads: Tensor, kernel_size: int, padding_mask: Tensor | None
) -> Tensor:
    """The gates, B x H x 1 x K, from the heads' means, T x B x H and zero at padding."""
    return gate(_pool(heads, 3 * kernel_size, padding_mask))


def gate_by_source(gate: ContextGate, source: Tensor, padding_mask: Tensor | None) -> Tensor:
    """The gates of a decoder's kernels, B x H x K, from the encoder's output, T x B x C."""
    heads = zero_padding(average_heads(source, gate.in_channels), padding_mask)
    return gate_sentences(gate, heads, gate.kernel_size[0], padding_mask).squeeze(2)


def _pool(heads: Tensor, pooled_size: int, padding_mask: Tensor | None) -> Tensor:
    if heads.device.type == "cpu":
        # A LayerNorm over two or three numbers enlarges the rounding of sums whose order
        # depends on the batch. The cost of float64 is not noticeable here.
        heads = heads.double()
    return pool_positions(heads, pooled_size, padding_mask)


# Symbolic tracing has no tensors, so functions that inspect them become single nodes of its graph.
for _function in (_pool, average_heads, zero_padding):
    fx.wrap(_function.__name__)
