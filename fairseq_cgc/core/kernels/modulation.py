"""The modulated kernels of every sentence, and their gradients, by the kernels of ``context``.

Shape letters: B batch, T time, C channels, H heads, K kernel, P pooled positions, d latent size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fairseq_cgc.core.kernels import context
from fairseq_cgc.core.kernels.blocks import power_of_two

#: Positions up to which a program averages its head's channels itself. Beyond, that is work for
#: more programs than there are heads and sentences.
AVERAGED_AT_ONCE = 128


@dataclass(frozen=True)
class Gate:
    """The parameters of the gate and what is done with it.

    Attributes:
        weight: H x K; a kernel for each head.
        encoder: d x P.
        norm_weight: d.
        norm_bias: d.
        decoder: K x d.
        epsilon: of the LayerNorm.
        weight_softmax: normalise the kernels.
        gates_logits: gate the kernels before the softmax, not after it.
    """

    weight: Tensor
    encoder: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    decoder: Tensor
    epsilon: float
    weight_softmax: bool
    gates_logits: bool

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        return self.weight, self.encoder, self.norm_weight, self.norm_bias, self.decoder

    def sizes(self, time: int) -> dict[str, Any]:
        """The constants that kernels forward and backward are compiled for."""
        (heads, size), (latent, pooled) = self.weight.shape, self.encoder.shape
        block_p = power_of_two(pooled)
        # A block of positions with R channels each, or one that keeps P numbers for each.
        largest = 32 if time <= AVERAGED_AT_ONCE else min(8192 // block_p, AVERAGED_AT_ONCE)
        return {
            "HEADS": heads,
            "SIZE": size,
            "POOLED": pooled,
            "LATENT": latent,
            "SOFTMAX": self.weight_softmax,
            "GATES_LOGITS": self.gates_logits,
            "BLOCK_T": largest,
            "BLOCK_P": block_p,
            "BLOCK_D": power_of_two(latent),
            "BLOCK_K": power_of_two(size),
            "num_warps": 8 if time > AVERAGED_AT_ONCE or size > 31 else 4,
        }


def modulate(x: Tensor, padding_mask: Tensor, gate: Gate) -> tuple[Tensor, Tensor]:
    """The modulated kernels and the pooled positions they come from.

    Args:
        x: T x B x C, the last stride 1.
        padding_mask: B x T, contiguous, 8 bits, not 0 at padding.
        gate: whose parameters are contiguous.

    Returns:
        B x H x K and B x H x P, float32.
    """
    time, batch, channels = x.shape
    heads = len(gate.weight)
    if time > AVERAGED_AT_ONCE:
        # Whatever stands at padding is averaged too, but the kernel does not read that.
        x = x.unflatten(2, (heads, -1)).mean(-1, dtype=torch.float32)
    kernel = torch.empty(batch, *gate.weight.shape, dtype=torch.float32, device=x.device)
    pooled = torch.empty(batch, heads, gate.encoder.shape[1], dtype=torch.float32, device=x.device)
    width = x.shape[2] // heads
    context.modulate[(batch * heads,)](
        kernel,
        pooled,
        x,
        padding_mask,
        *gate.parameters,
        time,
        x.stride(0),
        x.stride(1),
        gate.epsilon,
        WIDTH=width,
        BLOCK_R=min(power_of_two(width), 128),
        **gate.sizes(time),
    )
    return kernel, pooled


def modulate_backward(
    taps: Tensor,
    scale: float,
    pooled: Tensor,
    padding_mask: Tensor,
    gate: Gate,
    time: int,
    width: int,
    wants_share: bool,
) -> tuple[Tensor | None, Tensor]:
    """From the gradient of the modulated kernels to the input's and the parameters'.

    Args:
        taps: B x H x rows x K, float32, contiguous; the gradient is its sum over the rows ...
        scale: ... times this.
        pooled: B x H x P, from :func:`modulate`.
        padding_mask: as for :func:`modulate`.
        gate: as for :func:`modulate`.
        time: T.
        width: R.
        wants_share: whether the input's gradient is wanted.

    Returns:
        The gradient of each channel of a head through the gate, B x H x T in float32, zero at
        padding; and ``numbers`` for :func:`parameter_gradients`.
    """
    (batch, heads, rows, size), latent = taps.shape, len(gate.encoder)
    share = (
        torch.empty(batch, heads, time, dtype=torch.float32, device=taps.device)
        if wants_share
        else None
    )
    numbers = torch.empty(
        batch * heads, 2 * size + 4 * latent, dtype=torch.float32, device=taps.device
    )
    context.modulate_backward[(batch * heads,)](
        numbers,
        numbers if share is None else share,
        taps,
        pooled,
        padding_mask,
        *gate.parameters,
        time,
        rows,
        scale,
        gate.epsilon,
        WIDTH=width,
        WANTS_SHARE=wants_share,
        **gate.sizes(time),
    )
    return share, numbers


def parameter_gradients(numbers: Tensor, pooled: Tensor, gate: Gate) -> tuple[Tensor, ...]:
    """The gradients of ``gate.parameters``, float32, summed in an order that is always the same."""
    size, latent = gate.decoder.shape
    with torch.autocast(numbers.device.type, enabled=False):
        weight, logits, active, encoded, norm = numbers.split(
            [size, size, latent, latent, 2 * latent], 1
        )
        norm_weight, norm_bias = norm.sum(0).split(latent)
        return (
            weight.unflatten(0, (-1, len(gate.weight))).sum(0),
            encoded.t() @ pooled.flatten(0, 1),
            norm_weight,
            norm_bias,
            logits.t() @ active,
        )
