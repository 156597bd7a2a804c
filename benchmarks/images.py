"""Training steps of ResNet-50 at 224 x 224 with and without gates: forward, backward and SGD.

bfloat16 is that of autocast, channels_last the memory layout of images and weights. float32
excludes TF32.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch
from conv import unfolded
from timing import Settings, compared, interleave, peak_memory
from torch import nn

from fairseq_cgc.core import CGConv2d
from fairseq_cgc.support.tables import markdown
from fairseq_cgc.vision import create_model

BASE, PLAIN, GATED = "no gates, float32", "no gates", "gates"
UNFOLDED = "gates, unfold and product"
#: Device -> largest batch of which everything is measured.
SMALL = {"cpu": 8, "cuda": 64}


def shapes(settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows to measure."""
    batches = {"cpu": (8, 32), "cuda": (64,)}[settings.device]
    for batch in (2,) if settings.quick else batches:
        for precision in ("float32", "bfloat16"):
            for channels_last in (False, True):
                yield {"batch": batch, "precision": precision, "channels_last": channels_last}


def measure(shape: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """A row: seconds of a step in the row's setting, beside a plain one in float32.

    With one thread they are the processor's, which other programs disturb less. Small batches also
    get peak memory in MiB and, in float32, the usual forward pass.
    """
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    images = torch.randn(shape["batch"], 3, 224, 224, device=settings.device)
    precision, channels_last = shape["precision"], shape["channels_last"]
    contenders = {
        BASE: _step("resnet50", images, "float32", channels_last=False),
        GATED: _step("resnet50_cgc", images, precision, channels_last),
    }
    is_base = precision == "float32" and not channels_last
    is_small = shape["batch"] <= SMALL[settings.device]
    if not is_base:
        contenders[PLAIN] = _step("resnet50", images, precision, channels_last)
    elif is_small:
        with_gates = contenders[GATED]
        contenders[UNFOLDED] = lambda: patch.object(CGConv2d, "forward", unfolded)(with_gates)()
    is_single = settings.device == "cpu" and torch.get_num_threads() == 1
    times = interleave(
        contenders,
        seconds=settings.seconds,
        least=3 if is_small else 2,
        device=settings.device,
        clock=time.process_time if is_single else time.perf_counter,
    )
    row: dict[str, Any] = {"step": {name: vars(value) for name, value in times.items()}}
    if is_small:
        row["peak_mib"] = {
            name: peak_memory(step, settings.device) for name, step in contenders.items()
        }
    return row


def _step(
    name: str, images: torch.Tensor, precision: str, channels_last: bool
) -> Callable[[], None]:
    model = create_model(name, num_classes=1000).to(images.device)
    if channels_last:
        model = nn.utils.convert_conv2d_weight_memory_format(model, torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(len(images), device=images.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        is_on = precision != "float32"
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=is_on):
            logits = model(images)
        nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: a row for each batch size and setting."""
    names = [PLAIN, GATED, UNFOLDED]
    head = ["B", "precision", "channels_last", BASE, *names, "gates / no gates"]
    memory = [f"{name}, MiB" for name in names]
    cells = []
    for row in rows:
        layout = "yes" if row["channels_last"] else "no"
        medians = {name: times["median"] for name, times in row["step"].items()}
        plain, peaks = PLAIN if PLAIN in medians else BASE, row.get("peak_mib", {})
        cells.append(
            [
                *(str(row["batch"]), row["precision"], layout),
                *compared(row["step"], BASE, names),
                f"{medians[GATED] / medians[plain]:.2f}",
                *(f"{peaks[n]:.0f}" if n in peaks else "" for n in (plain, GATED, UNFOLDED)),
            ]
        )
    return [
        f"The fourth column is the milliseconds of a training step of ResNet-50 with {BASE}, as "
        "median (quartiles); with one thread, they are the processor's time. The next three are "
        "multiples of that median: without gates, with gates, and with gates by unfold, per-sample "
        "kernels and a matrix product. MiB is the most that a step adds to the memory in use.",
        "",
        *markdown([*head, *memory], cells),
    ]
