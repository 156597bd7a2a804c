"""Context-gated convolution of images beside unfold with a matrix product, and beside no gate.

The convolutions are those of ResNet-50 at 224 x 224: its stem, and a 3 x 3 convolution of each
stage. The input of the stem needs no gradient, as in training. float32 excludes TF32; bfloat16 is
that of autocast.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from timing import Settings, compared, measure_passes
from torch import Tensor, nn

from fairseq_cgc.core import CGConv2d
from fairseq_cgc.core.sample_convolution import FORCE
from fairseq_cgc.core.sample_methods import METHODS
from fairseq_cgc.support.tables import markdown

UNFOLDED, OURS, BASE = "unfold and product", "ours", "no gate"
#: Input channels, output channels, side of the input, kernel size and stride.
LAYERS = {
    "stem": (3, 64, 224, 7, 2),
    "stage 1": (64, 64, 56, 3, 1),
    "stage 2": (128, 128, 28, 3, 1),
    "stage 3": (256, 256, 14, 3, 1),
    "stage 4": (512, 512, 7, 3, 1),
}
LEAST_ROUNDS = 3


def unfolded(self: CGConv2d, x: Tensor) -> Tensor:
    """The usual forward pass: all kernels and windows of the batch, and one matrix product."""
    kernels = (self.weight * self.gate(x)).flatten(2)  # B x o x (c * prod(kernel))
    out = kernels @ F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)
    sides = zip(x.shape[2:], self.kernel_size, self.padding, self.stride, strict=True)
    return out.unflatten(2, [(n + 2 * p - k) // s + 1 for n, k, p, s in sides])


def shapes(settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows to measure: each layer for one or several batch sizes."""
    batches = {"cpu": (8, 32), "cuda": (64,)}[settings.device]
    for precision in ("float32", "bfloat16"):
        for batch in (4,) if settings.quick else batches:
            for layer in LAYERS:
                yield {"layer": layer, "batch": batch, "precision": precision}


def measure(shape: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """A row: seconds forward and of both passes, MiB of both, and who ran out of memory."""
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    channels, outputs, side, kernel_size, stride = LAYERS[shape["layer"]]
    sizes = (channels, outputs, kernel_size, stride, kernel_size // 2)
    plain, gated = (kind(*sizes, bias=False) for kind in (nn.Conv2d, CGConv2d))
    x = torch.randn(shape["batch"], channels, side, side, device=settings.device)
    x.requires_grad_(channels > 3)
    passes: dict[str, dict[str, Callable[[], object]]] = {"forward": {}, "forward_backward": {}}
    out_of_memory = []
    for name, method in _methods(every=not settings.quick).items():
        module = (plain if name == BASE else gated).to(settings.device)
        try:
            steps = _steps(module, method, x, shape)
            for once in steps.values():
                once()
        except torch.OutOfMemoryError:
            out_of_memory.append(name)
            module.zero_grad()
            continue
        for what, once in steps.items():
            passes[what][name] = once
    return {
        "out_of_memory": out_of_memory,
        **measure_passes(passes, settings, least=LEAST_ROUNDS),
    }


def _methods(*, every: bool) -> dict[str, Callable[[], AbstractContextManager[object]]]:
    """Contender -> a context in which its module computes as it should.

    Args:
        every: include each method of ours, and not only the one that is chosen for the layer.
    """
    forced = {f"ours, {name}": partial(patch.dict, os.environ, {FORCE: name}) for name in METHODS}
    return {
        BASE: nullcontext,
        OURS: nullcontext,
        UNFOLDED: lambda: patch.object(CGConv2d, "forward", unfolded),
        **(forced if every else {}),
    }


def _steps(
    module: nn.Module,
    method: Callable[[], AbstractContextManager[object]],
    x: Tensor,
    shape: dict[str, Any],
) -> dict[str, Callable[[], object]]:
    """A forward pass, and both passes."""

    def autocast() -> AbstractContextManager[object]:
        is_on = shape["precision"] != "float32"
        return torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=is_on)

    with torch.no_grad(), autocast(), method():
        grad = torch.randn_like(module(x))

    def forward() -> None:
        with torch.no_grad(), autocast(), method():
            module(x)

    def forward_backward() -> None:
        with method():
            with autocast():
                out = module(x)
            out.backward(grad)
        module.zero_grad()
        x.grad = None

    return {"forward": forward, "forward_backward": forward_backward}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: a row for each layer and batch."""
    names = list(max((row["peak_mib"] for row in rows), key=len))[1:]
    head = ["", "B", "forward", *names, "and backward", *names, "MiB", *names]
    lines = [
        "The convolutions are those of ResNet-50 at 224 x 224. The columns `forward` and `and "
        f"backward` are the milliseconds with {BASE}, as median (quartiles); the columns after "
        "each are multiples of that median. The last columns are the peak memory of both passes.",
    ]
    for precision in dict.fromkeys(row["precision"] for row in rows):
        chosen = [_cells(row, names) for row in rows if row["precision"] == precision]
        lines += ["", f"### {precision}", "", *markdown(head, chosen)]
    return lines


def _cells(row: dict[str, Any], names: list[str]) -> list[str]:
    peaks = {name: f"{mib:.0f}" for name, mib in row["peak_mib"].items()}
    cells = [
        *compared(row["forward"], BASE, names),
        *compared(row["forward_backward"], BASE, names),
        *(peaks.get(name, "") for name in (BASE, *names)),
    ]
    for name in row["out_of_memory"]:
        for column, of_column in enumerate([BASE, *names] * 3):
            if of_column == name:
                cells[column] = "out of memory"
    return [row["layer"], str(row["batch"]), *cells]
