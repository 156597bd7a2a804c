from __future__ import annotations

import torch

from fairseq_cgc.vision.data.seeds import derive_seed, generator


def test_seeds_are_fixed_and_differ():
    # A change would make every training that was interrupted before it go on differently.
    assert derive_seed(1, "order", 0) == 969933350306031620
    seeds = {derive_seed(*parts) for parts in ((1, 12), (11, 2), ("1", 12), (1, 12, 0), ())}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_generators_repeat():
    first, second, other = (torch.rand(3, generator=generator(seed, "x")) for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)
