"""What a figure was measured with: versions and hardware."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path

import torch

_PACKAGES = {"torch": "torch", "fairseq": "fairseq-fixed", "sacrebleu": "sacrebleu"}


def versions() -> dict[str, str]:
    """Python's version and those of the packages that decide scores, as far as they are there."""
    found = {"python": platform.python_version()}
    for name, package in _PACKAGES.items():
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(package)
    return found


def describe_machine(*, cpu: bool = False) -> str:
    """The GPUs, or the processor where there is none or ``cpu`` is set."""
    if torch.cuda.is_available() and not cpu:
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return f"{len(names)} x {names[0]}"
    return f"CPU {_processor()}, {os.cpu_count()} logical cores"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
