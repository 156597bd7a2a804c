"""What the processor can do."""

from __future__ import annotations

import torch


def has_fast_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 faster than float32: by AVX-512 BF16 or AMX."""
    # torch's names are not public: where they are gone, the answer is no.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return torch.backends.mkldnn.is_available() and any(
        getattr(torch.cpu, name, bool)() for name in names
    )
