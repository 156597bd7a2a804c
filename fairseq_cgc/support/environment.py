"""Versions and hardware that a result was measured with, and what the processor can do."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import torch

#: Packages that scores of translations, and of images and videos, depend on: name -> package.
TRANSLATION = {"torch": "torch", "fairseq": "fairseq-fixed", "sacrebleu": "sacrebleu"}
IMAGES = {name: name for name in ("torch", "pillow", "numpy", "scikit-learn")}


def versions(packages: Mapping[str, str] = TRANSLATION) -> dict[str, str]:
    """The version of Python, and of those packages that are installed."""
    found = {"python": platform.python_version()}
    for name, package in packages.items():
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(package)
    return found


def describe_machine(*, cpu: bool = False) -> str:
    """The GPUs, or the processor if there is none or ``cpu`` is set."""
    if torch.cuda.is_available() and not cpu:
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return f"{len(names)} x {names[0]}"
    return f"CPU {_processor()}, {os.cpu_count()} logical cores"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def has_fast_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 faster than float32: by AVX-512 BF16 or AMX."""
    # These functions of torch are not public: where they are gone, the answer is no.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return torch.backends.mkldnn.is_available() and any(
        getattr(torch.cpu, name, bool)() for name in names
    )
