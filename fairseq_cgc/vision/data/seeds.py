"""Random numbers that depend on the place in a training, never on what was drawn before.

Every draw comes from a generator seeded with (seed, purpose, epoch, ...). So a resumed training
draws what an uninterrupted one would draw, without a generator's state in the checkpoint, and the
augmentation of an image does not depend on the number of worker processes or GPUs.
"""

from __future__ import annotations

import hashlib

import torch

_BITS = 63  # torch takes signed 64-bit seeds


def derive_seed(*parts: int | str) -> int:
    """A seed of 63 bits; different parts give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - _BITS)


def generator(*parts: int | str) -> torch.Generator:
    """A generator on the CPU, seeded with :func:`derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(*parts))
