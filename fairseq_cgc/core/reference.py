"""Reference implementations: the definitions as plain loops, slow on purpose.

The tests compare the fast paths of this package with these functions, outputs and gradients. Shape
letters are those of the mirrored modules.
"""

from __future__ import annotations

from itertools import product
from math import prod

import torch
from torch import Tensor, nn

from fairseq_cgc.core.convolution import CGConv1d, CGConv2d, CGConv3d
from fairseq_cgc.core.gate import ContextGate
from fairseq_cgc.core.lightconv import CGLightConv
from fairseq_cgc.core.sentence_gate import TARGETS


def pool_sentence(values: Tensor, pooled_size: int) -> Tensor:
    """Pool one sentence's L values to ``pooled_size`` values."""
    length = len(values)
    if length < pooled_size:
        return torch.cat([values, values.new_zeros(pooled_size - length)])
    bins = []
    for i in range(pooled_size):
        start = (i * length) // pooled_size
        end = ((i + 1) * length + pooled_size - 1) // pooled_size
        bins.append(values[start:end].mean())
    return torch.stack(bins)


def pool_heads(
    x: Tensor, num_heads: int, pooled_size: int, padding_mask: Tensor | None = None
) -> Tensor:
    """T x B x C to B x H x P: :func:`fairseq_cgc.core.pooling.pool_heads`."""
    time, batch, channels = x.shape
    if padding_mask is None:
        padding_mask = torch.zeros(batch, time, dtype=torch.bool)
    width = channels // num_heads
    sentences = []
    for b in range(batch):
        valid = x[~padding_mask[b], b]  # L x C
        heads = [valid[:, h * width : (h + 1) * width].mean(1) for h in range(num_heads)]
        sentences.append(torch.stack([pool_sentence(head, pooled_size) for head in heads]))
    return torch.stack(sentences)


def light_convolution(x: Tensor, kernel: Tensor, padding_l: int | None = None) -> Tensor:
    """:func:`fairseq_cgc.core.functional.light_convolution` without DropConnect."""
    time, batch, channels = x.shape
    _, num_heads, kernel_size = kernel.shape
    padding_l = kernel_size // 2 if padding_l is None else padding_l
    kernel = kernel.expand(batch, -1, -1)
    width = channels // num_heads
    out = []
    for t, b, c in product(range(time), range(batch), range(channels)):
        taps = [
            kernel[b, c // width, k] * x[t + k - padding_l, b, c]
            for k in range(kernel_size)
            if 0 <= t + k - padding_l < time
        ]
        out.append(torch.stack(taps).sum())
    return torch.stack(out).view(time, batch, channels)


def context_gate(gate: ContextGate, pooled: Tensor) -> Tensor:
    """Equation 1, from context that is already pooled: B x c x grid to B x o x c x kernel."""
    batch, positions = len(pooled), prod(gate.kernel_size)
    context = pooled.flatten(2)
    encoded = torch.einsum("bcp,dp->bcd", context, gate.encoder)
    g1 = g2 = None
    if gate.branches != "out":
        assert gate.in_norm is not None and gate.in_decoder is not None
        g1 = torch.einsum(
            "bcd,kd->bck", _normalise(gate.in_norm, encoded, gate.norm).relu(), gate.in_decoder
        )
    if gate.interaction is not None:
        if gate.out_encoder is not None:
            encoded = torch.einsum("bcp,dp->bcd", context, gate.out_encoder)
        norm = gate.out_norm if gate.out_norm is not None else gate.in_norm
        decoder = gate.out_decoder if gate.out_decoder is not None else gate.in_decoder
        assert norm is not None and decoder is not None and gate.interaction_norm is not None
        inputs = _normalise(norm, encoded, gate.norm).relu()
        rows, width = gate.interaction.shape
        outputs = [
            gate.interaction[o % rows] @ inputs[:, (o // rows) * width : (o // rows + 1) * width]
            for o in range(gate.out_channels)
        ]  # each B x d
        mixed = torch.stack(outputs, 1)  # B x o x d
        latent = _normalise(gate.interaction_norm, mixed, gate.norm).relu()
        g2 = torch.einsum("bod,kd->bok", latent, decoder)
    if not gate.channel_interaction:
        assert g1 is not None
        return torch.sigmoid(g1).view(batch, gate.in_channels, 1, *gate.kernel_size)
    shape = (batch, gate.out_channels, gate.in_channels, positions)
    zero_or_one = 0.0 if gate.combine == "sum" else 1.0
    g1 = torch.full(shape, zero_or_one) if g1 is None else g1.unsqueeze(1).expand(shape)
    g2 = torch.full(shape, zero_or_one) if g2 is None else g2.unsqueeze(2).expand(shape)
    logits = g1 + g2 if gate.combine == "sum" else g1 * g2
    return torch.sigmoid(logits).view(*shape[:3], *gate.kernel_size)


def _normalise(norm: nn.Module, encoded: Tensor, kind: str) -> Tensor:
    """B x channels x d by batch statistics, over d (``"layer"``) or channels x d (``"heads"``)."""
    if not isinstance(norm, nn.LayerNorm):
        return norm(encoded)
    dims = (2,) if kind == "layer" else (1, 2)
    centred = encoded - encoded.mean(dims, keepdim=True)
    variance = centred.square().mean(dims, keepdim=True)
    return centred / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def cg_light_conv(module: CGLightConv, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
    """:class:`CGLightConv` without DropConnect, one sentence at a time and without padding.

    Returns:
        T x B x C, zero at padded positions.
    """
    time, batch, _ = x.shape
    if padding_mask is None:
        padding_mask = torch.zeros(batch, time, dtype=torch.bool)

    def normalise(weight: Tensor) -> Tensor:
        return nn.functional.softmax(weight, dim=-1) if module.weight_softmax else weight

    out = torch.zeros_like(x)
    for b in range(batch):
        sentence = x[~padding_mask[b], b].unsqueeze(1)  # L x 1 x C
        gate = torch.ones(module.num_heads, 1, module.kernel_size, dtype=x.dtype)
        if module.gate is not None:
            pooled = pool_heads(sentence, module.num_heads, 3 * module.kernel_size)
            gate = context_gate(module.gate, pooled)[0]  # H x 1 x K
        weight = TARGETS[module.gate_target].modulate(module.weight, gate, normalise)
        result = light_convolution(sentence, weight.transpose(0, 1))
        if module.bias is not None:
            result = result + module.bias
        index = (~padding_mask[b]).nonzero().squeeze(1)
        out = out.index_put((index, torch.tensor(b)), result[:, 0])
    return out


def cg_convolution(module: CGConv1d | CGConv2d | CGConv3d, x: Tensor) -> Tensor:
    """Equation 2 for B x c x spatial, one output position at a time, in x's dtype.

    The gate's own definition is :func:`context_gate`; pooling and the padding modes are torch's.
    """
    batch, dims = len(x), len(module.kernel_size)
    pooled = module.gate.pool(x).to(x.dtype)
    gate = context_gate(module.gate, pooled)  # B x o x c x kernel
    # Output channel o sees the input channels of its group only.
    rows, width = module.out_channels // module.groups, module.in_channels // module.groups
    kernel = torch.stack(
        [
            module.weight[o] * gate[:, o, o // rows * width : (o // rows + 1) * width]
            for o in range(module.out_channels)
        ],
        dim=1,
    )
    reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    if module.padding == "same":
        pads = [(r // 2, r - r // 2) for r in reach]
    elif module.padding == "valid":
        pads = [(0, 0)] * dims
    else:
        pads = [(int(p), int(p)) for p in module.padding]
    flat_pads = [p for pair in reversed(pads) for p in pair]
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = nn.functional.pad(x, flat_pads, mode=mode)
    sizes = [
        (n - r - 1) // s + 1 for n, r, s in zip(x.shape[2:], reach, module.stride, strict=True)
    ]
    columns = []
    for position in product(*map(range, sizes)):
        starts = [p * s for p, s in zip(position, module.stride, strict=True)]
        window = x
        for dim, (start, r, d) in enumerate(zip(starts, reach, module.dilation, strict=True)):
            window = window[(slice(None),) * (dim + 2) + (slice(start, start + r + 1, d),)]
        groups = window.reshape(batch, module.groups, 1, -1)
        per_group = kernel.view(batch, module.groups, rows, -1)
        columns.append((per_group * groups).sum(3).flatten(1))  # B x o
    out = torch.stack(columns, 2).view(batch, -1, *sizes)
    return out if module.bias is None else out + module.bias.view(-1, *[1] * dims)
