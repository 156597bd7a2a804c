"""What all benchmarks of one command share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Made by ``benchmarks/run.py``."""

    device: str
    """"cpu" or "cuda"."""
    quick: bool
    """Few and small rows."""
    precision: str | None
    """The only one of the rows, if any."""
    seconds: float
    """For the rounds of one figure, about."""
    checkpoint: Path | None
    """A trained model to decode with, beside the untrained one."""
    data: Path | None
    """Binarised data of that model."""
