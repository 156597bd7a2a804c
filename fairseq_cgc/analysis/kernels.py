"""The kernels that a gated convolution uses for many samples, kept small.

A kernel for every sample would fill the memory: those of ResNet-50's last layer for ImageNet's
50,000 validation images take 470 GB. The two branches of their gates take 1.8 GB; from these the
kernels are made for a few samples and output channels at a time.

Shape letters: N samples, n some of them, c input channels, o output channels, s some of these,
G groups, K = prod(kernel).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fairseq_cgc.analysis.layers import GATED, find_layer
from fairseq_cgc.core import UserError


@dataclass(frozen=True)
class ModulatedKernels:
    """The kernels of one layer, ``weight * sigmoid(g1 + g2)`` for each sample.

    Attributes:
        weight: o x c/G x K.
        g1: N x c x K, or None for a gate without this branch.
        g2: N x o x K, likewise.
        groups: G.
        combine: ``"sum"`` or ``"product"`` of the branches.
        kernel_size: whose product is K.
    """

    weight: Tensor
    g1: Tensor | None
    g2: Tensor | None
    groups: int
    combine: str
    kernel_size: tuple[int, ...]

    def __len__(self) -> int:
        branch = self.g1 if self.g1 is not None else self.g2
        assert branch is not None
        return len(branch)

    def of(self, samples: Tensor | slice, outputs: slice) -> Tensor:
        """Some samples' kernels for some output channels, n x s x c/G x K."""
        logits = []
        if self.g1 is not None:
            by_group = self.g1[samples].unflatten(1, (self.groups, -1))  # n x G x c/G x K
            rows = len(self.weight) // self.groups
            group = torch.arange(len(self.weight), device=self.weight.device)[outputs] // rows
            logits.append(by_group[:, group])
        if self.g2 is not None:
            logits.append(self.g2[samples][:, outputs].unsqueeze(2))
        gate = logits[0]
        if len(logits) == 2:
            gate = gate + logits[1] if self.combine == "sum" else gate * logits[1]
        return self.weight[outputs] * gate.sigmoid()


def record_kernels(
    model: nn.Module, layer: str | None, batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[ModulatedKernels, Tensor]:
    """Run a model and record what one of its layers makes of every sample.

    Args:
        model: left in evaluation mode, where a sample's gate depends on that sample alone.
        layer: name of a gated convolution; the last one if ``None``.
        batches: what the model takes, and labels, B.

    Returns:
        The kernels, on the CPU, and all labels, N.

    Raises:
        UserError: if there is no such layer or no sample, or the layer does not run once for
            each batch.
    """
    name, conv = find_layer(model, layer, GATED)
    branches: list[tuple[Tensor | None, Tensor | None]] = []
    labels: list[Tensor] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # Not a hook on the gate, which is as large as all kernels: the branches are small.
        g1, g2 = conv._logits(inputs[0])
        small = [None if g is None else g.flatten(2).float().cpu() for g in (g1, g2)]
        branches.append((small[0], small[1]))

    handle = conv.register_forward_pre_hook(record)
    try:
        model.eval()
        with torch.inference_mode():
            for inputs, of_batch in batches:
                labels.append(of_batch.cpu())
                model(inputs)
                if len(branches) != len(labels) or _samples(branches[-1]) != len(of_batch):
                    raise UserError(
                        f"{name} must run once on each batch of {len(of_batch)} samples, "
                        f"but has run on {[_samples(b) for b in branches[len(labels) - 1 :]]}"
                    )
    finally:
        handle.remove()
    if not labels:
        raise UserError("there are no samples to record kernels of")
    g1, g2 = (_joined(list(parts)) for parts in zip(*branches, strict=True))
    weight = conv.weight.detach().flatten(2).float().cpu()
    kernels = ModulatedKernels(
        weight, g1, g2, conv.groups, conv.gate.combine, tuple(conv.kernel_size)
    )
    return kernels, torch.cat(labels)


def _samples(branches: tuple[Tensor | None, Tensor | None]) -> int:
    return next(len(branch) for branch in branches if branch is not None)


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    found = [part for part in parts if part is not None]
    return torch.cat(found) if found else None
