"""What several tests compare with, and how."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

# The real corpora lie beside the checkout on the machines of the project; a user has none.
SHARED = Path(__file__).resolve().parent.parent.parent / "shared"

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 4e-2}

#: Switches of the context gate that change its parameters or their use (Table 3).
SWITCHES = [
    {},
    {"branches": "in"},
    {"branches": "out"},
    {"combine": "product"},
    {"channels_per_group": None},
    {"latent_size": 9},
    {"shared_norm": True},
    {"shared_encoder": False},
    {"shared_decoder": True},
    {"norm": "layer", "init": "xavier"},
]


class OpenGate(nn.Module):
    """A gate that lets everything through."""

    def forward(self, context: Tensor) -> Tensor:
        return context.new_ones(())


def padding_mask(lengths: list[int], side: str, time: int | None = None) -> Tensor:
    """B x T, True at padding: sentences of ``lengths``, padded on the ``side`` named."""
    time = max(lengths) if time is None else time
    position = torch.arange(time).expand(len(lengths), -1)
    length = torch.tensor(lengths).unsqueeze(1)
    return position >= length if side == "right" else position < time - length


def gradients(output: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Gradients of a random projection of ``output``, the same for equal shapes."""
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    return list(torch.autograd.grad((output * weights.to(output.dtype)).sum(), inputs))
