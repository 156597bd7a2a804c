"""The modulated kernels of every sentence, and their gradients, by the kernels of ``context``.

Shape letters: B batch, T time, C channels, H heads, K kernel, P pooled positions, d latent size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fairseq_cgc.core.gpu import context
from fairseq_cgc.core.gpu.tiles import AVERAGED_AT_ONCE, channel_tile, gate_tiles, power_of_two


class Gate(NamedTuple):
    """The contiguous parameters of the gate, and its options.

    Attributes:
        weight: H x K; a kernel for each head.
        encoder: d x P.
        norm_weight: d; or H x d, for one LayerNorm over all heads of a sentence.
        norm_bias: likewise.
        decoder: K x d.
        epsilon: of the LayerNorm.
        weight_softmax: whether to normalise the kernels.
        gate_target: a fused one of :data:`~fairseq_cgc.core.sentence_gate.TARGETS`.
    """

    weight: Tensor
    encoder: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    decoder: Tensor
    epsilon: float
    weight_softmax: bool
    gate_target: str

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        return self[:5]

    @property
    def norms_heads(self) -> bool:
        return self.norm_weight.dim() == 2

    def sizes(self, time: int) -> dict[str, Any]:
        """The constants that all kernels are compiled for."""
        (heads, size), (latent, pooled) = self.weight.shape, self.encoder.shape
        tiles = gate_tiles(time, pooled, latent, size)
        return {"HEADS": heads, "POOLED": pooled, "LATENT": latent, **tiles}

    def modulation(self) -> dict[str, Any]:
        """The constants that ``modulate`` and its backward are compiled for as well."""
        size = self.weight.shape[1]
        return {
            "SIZE": size,
            "SOFTMAX": self.weight_softmax,
            "TARGET": self.gate_target,
            "NORMS_HEADS": self.norms_heads,
            "BLOCK_K": power_of_two(size),
        }


def modulate(x: Tensor, padding_mask: Tensor, gate: Gate) -> tuple[Tensor, Tensor, Tensor | None]:
    """The modulated kernels, and what their gradients are computed from, all in float32.

    Args:
        x: T x B x C, the last stride 1.
        padding_mask: B x T, contiguous, 8 bits, not 0 at padding.

    Returns:
        The kernels, B x H x K; the pooled positions, B x H x P; and where the LayerNorm is over all
        heads, its mean and 1 / deviation, B x 2.
    """
    time, batch, _ = x.shape
    heads, (latent, pooled_size) = len(gate.weight), gate.encoder.shape
    if time > AVERAGED_AT_ONCE:
        # This averages values at padding too, but the kernel does not read those.
        x = x.unflatten(2, (heads, -1)).mean(-1, dtype=torch.float32)
    options: dict[str, Any] = {"dtype": torch.float32, "device": x.device}
    kernel = torch.empty(batch, *gate.weight.shape, **options)
    pooled = torch.empty(batch, heads, pooled_size, **options)
    width = x.shape[2] // heads
    sizes = {"WIDTH": width, "BLOCK_R": channel_tile(width), **gate.sizes(time)}
    strides = (time, *x.stride()[:2])
    moments = None
    if gate.norms_heads:
        encoded = torch.empty(batch, heads * latent, **options)
        context.encode[(batch * heads,)](
            encoded, pooled, x, padding_mask, gate.encoder, *strides, **sizes
        )
        variance, mean = torch.var_mean(encoded, 1, correction=0)
        moments = torch.stack([mean, torch.rsqrt(variance + gate.epsilon)], 1)
    context.modulate[(batch * heads,)](
        kernel,
        pooled,
        x,
        padding_mask,
        kernel if moments is None else moments,
        *gate.parameters,
        *strides,
        gate.epsilon,
        **sizes,
        **gate.modulation(),
    )
    return kernel, pooled, moments


def modulate_backward(
    taps: Tensor,
    scale: float,
    pooled: Tensor,
    moments: Tensor | None,
    padding_mask: Tensor,
    gate: Gate,
    time: int,
    width: int,
    wants_share: bool,
) -> tuple[Tensor | None, Tensor]:
    """From the gradient of the modulated kernels to the input's and the parameters'.

    Args:
        taps: B x H x rows x K, float32, contiguous; the kernels' gradient is its sum over the rows,
            times ``scale``.
        pooled, moments, padding_mask, gate: as for :func:`modulate`, and from it.
        time: T.
        width: R.
        wants_share: whether the input's gradient is wanted.

    Returns:
        The gradient of each channel of a head through the gate, B x H x T in float32, zero at
        padding; and ``partial`` for :func:`parameter_gradients`.
    """
    (batch, heads, rows, size), latent = taps.shape, len(gate.encoder)
    partial = taps.new_empty(batch * heads, 2 * size + 4 * latent)
    share = taps.new_empty(batch, heads, time) if wants_share else None
    written = partial, partial if share is None else share
    sizes = {"WIDTH": width, "WANTS_SHARE": wants_share, **gate.sizes(time)}
    context.modulate_backward[(batch * heads,)](
        *written,
        taps,
        pooled,
        padding_mask,
        partial if moments is None else moments,
        *gate.parameters,
        time,
        rows,
        scale,
        gate.epsilon,
        **sizes,
        **gate.modulation(),
    )
    if moments is not None:
        # Averages over all that the norm spans: of the gradient times what was normalised, and of
        # the gradient. They follow from the gradients of the norm's scale and shift.
        grad_norm = partial[:, -2 * latent :].view(batch, heads, 2, latent)
        grad_moments = (grad_norm * gate.norm_weight.unsqueeze(1)).mean((1, 3))
        context.encode_backward[(batch * heads,)](
            *written,
            grad_moments,
            pooled,
            padding_mask,
            moments,
            gate.encoder,
            gate.norm_weight,
            time,
            gate.epsilon,
            SIZE=size,
            **sizes,
        )
    return share, partial


def parameter_gradients(partial: Tensor, pooled: Tensor, gate: Gate) -> tuple[Tensor, ...]:
    """The gradients of ``gate.parameters`` in float32, summed in a fixed order."""
    size, latent = gate.decoder.shape
    with torch.autocast(partial.device.type, enabled=False):
        weight, logits, active, encoded, norm = partial.split(
            [size, size, latent, latent, 2 * latent], 1
        )
        norm = norm.unflatten(0, (-1, len(gate.weight))) if gate.norms_heads else norm
        norm_weight, norm_bias = norm.sum(0).split(latent, -1)
        return (
            weight.unflatten(0, (-1, len(gate.weight))).sum(0),
            encoded.t() @ pooled.flatten(0, 1),
            norm_weight,
            norm_bias,
            logits.t() @ active,
        )
