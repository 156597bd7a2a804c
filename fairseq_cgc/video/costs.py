"""Parameters and multiply-adds of the video models, beside the paper's (tables 4 and 5)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from fairseq_cgc.video.registry import architecture, create_model, list_models
from fairseq_cgc.vision.costs import (
    Cost,
    Published,
    count,
    number_cells,
    read_published,
    render,
    select,
)

PUBLISHED = read_published(Path(__file__).with_name("published.yaml"))
(MODELS,) = PUBLISHED.values()
ECO_LITE = "eco_lite"  # has a row, but is not built

HEADINGS = ("frames", "parameters", "paper", "multiply-adds", "increment", "gate products")
EXPLANATION = """\
Parameters, multiply-adds and products of gates and weights are in millions, for 174 classes and
one clip of 224 x 224, increments over the plain model of as many frames. The paper has no
multiply-adds of these models. CGC 3-D is what section 4.3 says: k x k x k pooled positions, d =
k^3 // 2 + 1 latent numbers, and but for P3D-A gates for t frames. With 8 frames this adds 0.26M
parameters to ResNet-50, of which the 7 x 7 stem has 0.19M (343 positions, d = 172, two decoders
of 8 x 49 x 172). The paper adds 0.21M with 8 frames and 0.23M with 16, though by its text the
decoders, which grow with t, differ by 0.17M. In P3D-A it adds 0.23M, although there (t = 1) the
decoders are smallest: 0.11M by the text. We know of no reading of the text that gives these
numbers, and did not choose one to come closer.
"""


def lines(names: Sequence[str] = (), *, markdown: bool = False) -> Iterator[str]:
    """All tables; arguments and errors are those of :func:`fairseq_cgc.vision.costs.lines`."""
    tables = select(names or list_models(), PUBLISHED, _unpublished, only=bool(names))
    yield from render(tables, HEADINGS, _cells, EXPLANATION, markdown=markdown)


def _unpublished(name: str) -> Published:
    family = architecture(name).family
    return Published(
        name,
        frames=32 if family == "p3d" else 8,
        backbone="bn_inception" if family == "eco" else "resnet50",
    )


def _cells(row: Published) -> list[str]:
    frames = str(row.frames)
    if row.model == ECO_LITE:
        ensemble = Cost(4 * parameters_of_eco_lite(), 0, 0)
        return [frames, *number_cells(row, ensemble, None)[:2], "", "", ""]
    plain = architecture(row.model).family
    counted = _cost(row.model, row.frames, row.backbone)
    counted_plain = None if row.model == plain else _cost(plain, row.frames, row.backbone)
    cells = number_cells(row, counted, counted_plain)
    return [frames, *cells[:4], cells[5]]  # the paper has no multiply-adds


@functools.cache
def _cost(name: str, frames: int, backbone: str) -> Cost:
    make = functools.partial(create_model, name, num_frames=frames, backbone=backbone)
    return count(make, (frames, 3, 224, 224))


def parameters_of_eco_lite() -> int:
    """Those of ECO that its 3-D network's features depend on, and a classifier of these alone."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = create_model("eco", num_frames=4, backbone="bn_inception")
        maps, _ = model.maps_and_features(torch.zeros(4, 3, 224, 224))
        assert model.volume is not None and isinstance(model.fc, nn.Linear)
        classifier = nn.Linear(model.volume.num_features, model.fc.out_features)
        classifier(model.volume(maps.unflatten(0, (-1, 4)).transpose(1, 2))).sum().backward()
    used = [*classifier.parameters(), *(p for p in model.parameters() if p.grad is not None)]
    return sum(p.numel() for p in used)
