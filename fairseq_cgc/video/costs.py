"""Parameters and multiply-adds of the video models, beside the paper's (tables 4 and 5)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fairseq_cgc.video.registry import architecture, create_model, list_models
from fairseq_cgc.vision.costs import Cost, Published, count, render


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


HEADINGS = ("frames", "parameters", "paper", "multiply-adds", "increment", "gate products")
EXPLANATION = """\
Parameters, multiply-adds and products of gates and weights are in millions, for 174 classes and
one clip of 224 x 224, increments over the plain model of as many frames. The paper has no
multiply-adds of these models.
CGC 3-D is what section 4.3 says: k x k x k pooled positions, d = k^3 // 2 + 1 latent numbers,
gates for t frames in TSN and TSM. Of the parameters this adds with 8 frames, 0.26M, 0.19M are the
7 x 7 stem's (343 positions, d = 172, two decoders of 8 x 49 x 172). The paper adds 0.21M with 8
frames and 0.23M with 16, though by the text the decoders, which grow with t, make a difference of
0.17M; and 0.23M in P3D-A, whose decoders (t = 1) are the smallest: 0.11M by the text. We know no
reading of the text that gives these numbers, and chose none to come closer.
"""


def lines(names: Sequence[str] = (), *, markdown: bool = False) -> Iterator[str]:
    """All tables, line by line as the numbers are counted.

    Args:
        names: these models only, in one table; all models if there are none.
        markdown: Markdown instead of aligned columns.

    Raises:
        UserError: if one of ``names`` is no model.
    """
    for name in names:
        architecture(name)
    if names:
        tables = [("Models", [row for name in names for row in _rows(name)])]
    else:
        known = {row.model for row in MODELS}
        others = [row for name in list_models() if name not in known for row in _rows(name)]
        tables = [
            ("Models of tables 4 and 5", MODELS),
            ("Models that the paper does not have", others),
        ]
    yield from render(tables, HEADINGS, _cells, EXPLANATION, markdown=markdown)


def _rows(name: str) -> list[PublishedVideo]:
    frames = 32 if architecture(name).family == "p3d" else 8
    known = [row for row in MODELS if row.model == name]
    return known or [PublishedVideo(name, frames=frames)]


def _cells(row: PublishedVideo) -> tuple[str, ...]:
    counted = _cost(row.model, row.frames)
    plain = architecture(row.model).family
    increment = counted.multiply_adds - _cost(plain, row.frames).multiply_adds
    return (
        str(row.frames),
        f"{counted.parameters / 1e6:.2f}",
        f"{row.parameters:.2f}" if row.parameters is not None else "",
        f"{counted.multiply_adds / 1e6:.1f}",
        f"{increment / 1e6:.3f}" if row.model != plain else "",
        f"{counted.gated_weights / 1e6:.2f}" if counted.gated_weights else "",
    )


@functools.cache
def _cost(name: str, frames: int) -> Cost:
    make = functools.partial(create_model, name, num_frames=frames)
    return count(make, (frames, 3, 224, 224))
