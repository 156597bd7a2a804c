"""What the paper says its video models have of parameters: Lin et al., tables 4 and 5."""

from __future__ import annotations

from dataclasses import dataclass

from fairseq_cgc.vision.published import Published


@dataclass(frozen=True)
class PublishedVideo(Published):
    """One row, for 174 classes.

    Attributes:
        frames: in a clip.
    """

    frames: int = 8


MODELS = [
    PublishedVideo(model, parameters, frames=frames)
    for model, parameters, frames in (
        ("tsn", 23.86, 8),
        ("tsn_nonlocal", 31.22, 8),
        ("tsn_cgc", 24.07, 8),
        ("p3d", 25.38, 32),
        ("p3d_nonlocal", 32.73, 32),
        ("p3d_cgc1d", 25.39, 32),
        ("p3d_cgc3d", 25.61, 32),
        ("p3d_cgc1d3d", 25.62, 32),
        ("tsm", 23.86, 8),
        ("tsm_nonlocal", 31.22, 8),
        ("tsm_cgc", 24.07, 8),
        ("tsm_nonlocal_cgc", 31.43, 8),
        ("tsm", 23.86, 16),
        ("tsm_cgc", 24.09, 16),
    )
]
