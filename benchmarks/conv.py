"""Context-gated convolution of images beside unfold and a matrix product, and beside no gate.

The convolutions are those of ResNet-50 at 224 x 224: its stem and a 3 x 3 one of each stage, which
have the gate on an input that needs a gradient (but for the stem), and then a whole step of it:
forward, backward, SGD. float32 is float32 everywhere (no TF32); bfloat16 is autocast's.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from settings import Settings
from timing import Times, interleave, peak_memory
from torch import Tensor, nn

from fairseq_cgc.core import CGConv2d
from fairseq_cgc.core.sample_convolution import FORCE, METHODS
from fairseq_cgc.support.tables import markdown
from fairseq_cgc.vision import create_model

UNFOLDED, OURS, BASE = "unfold and product", "ours", "no gate"
# Input channels, output channels, side of the input, kernel and stride.
LAYERS = {
    "stem": (3, 64, 224, 7, 2),
    "stage 1": (64, 64, 56, 3, 1),
    "stage 2": (128, 128, 28, 3, 1),
    "stage 3": (256, 256, 14, 3, 1),
    "stage 4": (512, 512, 7, 3, 1),
}
MODEL = "ResNet-50"
LEAST_ROUNDS = 3


class Unfolded(CGConv2d):
    """The usual way: all gates, kernels and windows of the batch, and one matrix product."""

    def forward(self, x: Tensor) -> Tensor:
        kernels = (self.weight * self.gate(x)).flatten(2)  # B x o x (c * prod(kernel))
        out = kernels @ F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)
        sides = zip(x.shape[2:], self.kernel_size, self.padding, self.stride, strict=True)
        return out.unflatten(2, [(n + 2 * p - k) // s + 1 for n, k, p, s in sides])


def shapes(settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows to measure: each layer and the whole model, for one batch or several."""
    batches = {"cpu": (8, 32), "cuda": (64,)}[settings.device]
    for precision in ("float32",) if settings.device == "cpu" else ("float32", "bfloat16"):
        for batch in () if settings.quick else batches[:1]:
            yield {"layer": MODEL, "batch": batch, "precision": precision}
        for batch in (4,) if settings.quick else batches:
            for layer in LAYERS:
                yield {"layer": layer, "batch": batch, "precision": precision}


def measure(shape: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """One row: seconds forward, and forward and backward; MiB for both; who had no room."""
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if shape["layer"] == MODEL:
        contenders = _models()
        x = torch.randn(shape["batch"], 3, 224, 224)
    else:
        channels, outputs, side, kernel_size, stride = LAYERS[shape["layer"]]
        contenders = _layers(channels, outputs, kernel_size, stride, every=not settings.quick)
        x = torch.randn(shape["batch"], channels, side, side, requires_grad=channels > 3)
    x = x.detach().to(settings.device).requires_grad_(x.requires_grad)
    runs: dict[str, dict[str, Callable[[], object]]] = {"forward": {}, "forward_backward": {}}
    row: dict[str, Any] = {"out_of_memory": []}
    for name, (module, method) in contenders.items():
        module.to(settings.device)
        try:
            steps = _steps(module, method, x, shape)
            for once in steps.values():
                once()
        except torch.OutOfMemoryError:
            row["out_of_memory"].append(name)
            module.zero_grad()
            continue
        for what, once in steps.items():
            runs[what][name] = once
    for what, run in runs.items():
        times = interleave(
            run, seconds=settings.seconds, least=LEAST_ROUNDS, device=settings.device
        )
        row[what] = {name: vars(value) for name, value in times.items()}
    row["peak_mib"] = {
        name: peak_memory(once, settings.device) for name, once in runs["forward_backward"].items()
    }
    return row


def _layers(
    channels: int, outputs: int, kernel_size: int, stride: int, *, every: bool
) -> dict[str, tuple[nn.Module, str | None]]:
    """Name to module and the method that is forced; only the chosen one or ``every`` method."""
    shape = (channels, outputs, kernel_size, stride, kernel_size // 2)
    gated = CGConv2d(*shape, bias=False)
    contenders: dict[str, tuple[nn.Module, str | None]] = {
        BASE: (nn.Conv2d(*shape, bias=False), None),
        OURS: (gated, None),
        UNFOLDED: (_unfolded(gated), None),
    }
    if every:
        contenders |= {f"ours, {name}": (gated, name) for name in METHODS}
    return contenders


def _models() -> dict[str, tuple[nn.Module, str | None]]:
    gated = create_model("resnet50_cgc", num_classes=1000)
    return {
        BASE: (create_model("resnet50", num_classes=1000), None),
        OURS: (gated, None),
        UNFOLDED: (_unfolded(gated), None),
    }


def _unfolded(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, CGConv2d):
            module.__class__ = Unfolded
    return model


def _steps(
    module: nn.Module, method: str | None, x: Tensor, shape: dict[str, Any]
) -> dict[str, Callable[[], object]]:
    """A forward pass; and both passes, followed by a step of SGD where it is the whole model."""

    def autocast() -> AbstractContextManager[object]:
        on = shape["precision"] != "float32"
        return torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=on)

    with torch.no_grad(), autocast():
        grad = torch.randn_like(module(x))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0, momentum=0.9)

    def forward() -> None:
        with torch.no_grad(), autocast():
            module(x)

    def forward_backward() -> None:
        with autocast():
            out = module(x)
        out.backward(grad)
        if shape["layer"] == MODEL:
            optimizer.step()
        module.zero_grad()
        x.grad = None

    return {
        "forward": _forced(method, forward),
        "forward_backward": _forced(method, forward_backward),
    }


def _forced(method: str | None, run: Callable[[], None]) -> Callable[[], None]:
    if method is None:
        return run

    def once() -> None:
        os.environ[FORCE] = method
        try:
            run()
        finally:
            del os.environ[FORCE]

    return once


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: a row for each layer and batch."""
    names = list(max((row["peak_mib"] for row in rows), key=len))[1:]
    head = ["", "B", "forward", *names, "and backward", *names, "MiB", *names]
    lines = [
        f"Convolutions of ResNet-50 at 224 x 224. Milliseconds with {BASE}: median (quartiles). "
        "The others as multiples of it, medians. MiB: peak of forward and backward. The rows of "
        f"{MODEL} are whole steps, with SGD.",
    ]
    for precision in dict.fromkeys(row["precision"] for row in rows):
        chosen = [_cells(row, names) for row in rows if row["precision"] == precision]
        lines += ["", f"### {precision}", "", *markdown(head, chosen)]
    return lines


def _cells(row: dict[str, Any], names: list[str]) -> list[str]:
    cells = [row["layer"], str(row["batch"])]
    missing = dict.fromkeys(row["out_of_memory"], "out of memory")
    for what in ("forward", "forward_backward"):
        times = {name: Times(**value) for name, value in row[what].items()}
        cells.append(str(times[BASE]))
        cells += [
            f"{times[name].median / times[BASE].median:.2f}"
            if name in times
            else missing.get(name, "")
            for name in names
        ]
    peaks = {name: f"{mib:.0f}" for name, mib in row["peak_mib"].items()}
    return [*cells, *(peaks.get(name, missing.get(name, "")) for name in (BASE, *names))]
