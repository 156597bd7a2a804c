"""The kernels that a gated convolution uses for many samples, in little memory.

Storing a kernel for every sample would fill the memory: those of ResNet-50's last layer for the
50,000 validation images of ImageNet take 470 GB. The two branches of their gates take 1.8 GB, and
the kernels are computed from them for a few samples and output channels at a time.

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
        g1: N x c x K; ``None`` if the gate has no such branch.
        g2: N x o x K; ``None`` if the gate has no such branch.
        groups: G.
        combine: ``"sum"`` or ``"product"`` of the branches.
        kernel_size: of a sample's kernels; its product is K. Where the gate has a kernel for each
            frame of a clip, its first number is that of the frames.
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
        """The kernels of some samples for some output channels, n x s x c/G x K."""
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
    """Run a model and record the kernels that one of its layers uses for every sample.

    Args:
        model: left in evaluation mode, where a sample's gate depends on that sample alone.
        layer: name of a gated convolution; ``None`` for the last one.
        batches: inputs of the model, and labels, B.

    Returns:
        The kernels, on the CPU, and all labels, N.

    Raises:
        UserError: if there is no such layer or no sample, or the layer does not run exactly once
            for each batch.
    """
    name, conv = find_layer(model, layer, GATED)
    branches: list[tuple[Tensor | None, Tensor | None]] = []
    labels: list[Tensor] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # The branches are small; the gate that they make is as large as all kernels. The gate's own
        # branches are those of whole clips, where the convolution's are those of frames.
        g1, g2 = conv.gate.branch_logits(conv._context(inputs[0]))
        branches.append((_compact(g1), _compact(g2)))

    model.eval()
    with conv.register_forward_pre_hook(record), torch.inference_mode():
        for inputs, of_batch in batches:
            labels.append(of_batch.cpu())
            model(inputs)
            ran = [
                next(len(branch) for branch in pair if branch is not None)
                for pair in branches[len(labels) - 1 :]
            ]
            if ran != [len(of_batch)]:
                raise UserError(
                    f"{name} must run once on each batch of {len(of_batch)} samples, but has run "
                    f"on {ran}"
                )
    if not labels:
        raise UserError("there are no samples to record kernels of")
    g1, g2 = (
        None if parts[0] is None else torch.cat(parts) for parts in zip(*branches, strict=True)
    )
    kernel_size = conv.gate.kernel_size
    weight = conv.weight.detach().float().cpu()
    if len(kernel_size) > len(conv.kernel_size):  # the frames of a clip gate one weight
        weight = weight.unsqueeze(2).expand(-1, -1, kernel_size[0], *conv.kernel_size)
    kernels = ModulatedKernels(
        weight.flatten(2), g1, g2, conv.groups, conv.gate.combine, kernel_size
    )
    return kernels, torch.cat(labels)


def _compact(branch: Tensor | None) -> Tensor | None:
    return None if branch is None else branch.flatten(2).float().cpu()
