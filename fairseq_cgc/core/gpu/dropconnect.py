"""DropConnect without a stored mask, for the kernels that convolve.

Whether a tap is dropped follows from a seed and its place (sentence, head, output position, tap),
so that the backward pass draws what the forward pass drew.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl


@triton.jit
def is_kept(
    seed: tl.tensor,
    dropout: tl.tensor,
    row: tl.tensor,
    time: tl.tensor,
    t: tl.tensor,
    k: tl.tensor,
    SIZE: tl.constexpr,
) -> Any:
    """Whether DropConnect keeps tap k of output position t of row b H + h."""
    # The counter may wrap around in 32 bits: then, two taps far apart share their draws. Seven
    # rounds of Philox 4x32 are the fewest that pass every test of BigCrush (Salmon et al., 2011).
    return tl.rand(seed, (row * time + t) * SIZE + k, 7) >= dropout


def draw_seed(dropout: float) -> int:
    """A seed from torch's generator of the CPU: reading a GPU's would wait for the GPU."""
    return int(torch.randint(2**31, (), device="cpu")) if dropout > 0 else 0


def drop_scale(dropout: float) -> float:
    """What the taps that DropConnect keeps are multiplied by."""
    return 1.0 / (1.0 - dropout) if dropout < 1.0 else 0.0
