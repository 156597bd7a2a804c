"""Few tile sizes, because every new one compiles a kernel again."""

import launching  # noqa: F401  # before the kernels
import pytest
import torch

from fairseq_cgc.core.gpu.modulation import Gate
from fairseq_cgc.core.gpu.tiles import SHORT, power_of_two, stages, time_block

LENGTHS = [*range(1, 300), 1000, 5000, 20000]


def test_lengths_share_two_kernels():
    assert {(time_block(t, 64), stages(t)) for t in LENGTHS} == {(SHORT, 1), (64, 3)}
    assert all(power_of_two(n) >= n for n in LENGTHS)


@pytest.mark.parametrize("size", [1, 3, 7, 15, 31, 63])
def test_lengths_share_two_gates(size):
    latent = size // 2 + 1
    shapes = [(4, size), (latent, 3 * size), (latent,), (latent,), (size, latent)]
    gate = Gate(*map(torch.zeros, shapes), 1e-5, weight_softmax=True, gate_target="kernel")
    assert len({tuple(gate.sizes(t).items()) for t in LENGTHS}) <= 2
