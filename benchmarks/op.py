"""The convolution, with a gate and without, beside fairseq's LightConv and DynamicConv.

All get the same padded batch of about 3,584 tokens, the size of a training batch at IWSLT'14's
lengths, and set the padding to zero first, as fairseq's encoder layer does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from fairseq.modules.dynamic_convolution import DynamicConv1dTBC
from fairseq.modules.lightweight_convolution import LightweightConv1dTBC
from settings import Settings
from timing import Times, interleave, peak_memory
from torch import Tensor, nn

from fairseq_cgc.core import CGLightConv, LightConv
from fairseq_cgc.core.functional import choose_method

CHANNELS, HEADS, TOKENS = 512, 4, 3584
WEIGHT_DROPOUT = 0.1
LENGTHS = [8, 16, 28, 64, 128, 256, 512, 1024, 2048]
KERNELS = [3, 7, 15, 31]
BATCHES = [8, 32, 128, 512]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BASE, OURS = "fairseq LightConv", "gated"


def shapes(settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows to measure: over lengths and kernels, then over batch sizes."""
    if settings.quick:
        for time, kernel_size in ((28, 3), (28, 31), (128, 31), (1024, 3), (1024, 31)):
            yield _shape(time, TOKENS // time, kernel_size, "float32")
        yield _shape(28, TOKENS // 28, 31, "bfloat16")
        return
    dtypes = ["float32", "bfloat16", *(["float16"] if settings.device != "cpu" else [])]
    for dtype in dtypes:
        for kernel_size in KERNELS:
            for time in LENGTHS:
                yield _shape(time, max(1, TOKENS // time), kernel_size, dtype)
    for batch in BATCHES:
        if batch != TOKENS // 28:
            yield _shape(28, batch, 31, "float32")


def _shape(time: int, batch: int, kernel_size: int, dtype: str) -> dict[str, Any]:
    return {"time": time, "batch": batch, "kernel_size": kernel_size, "dtype": dtype}


def measure(shape: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """One row: seconds forward, and forward and backward; MiB for both."""
    torch.manual_seed(0)
    device, dtype = settings.device, DTYPES[shape["dtype"]]
    time, batch, kernel_size = shape["time"], shape["batch"], shape["kernel_size"]
    x = torch.randn(time, batch, CHANNELS, device=device, dtype=dtype)
    grad = torch.randn_like(x)
    # Sentences of 60 to 100 % of the length, padded on the left as in fairseq's training.
    mask = torch.arange(time) < (torch.rand(batch, 1) * 0.4 * time).long()
    mask = mask.to(device)
    run = _contenders(kernel_size, mask, device, dtype)
    runs: dict[str, dict[str, Callable[[], object]]] = {"forward": {}, "forward_backward": {}}
    for name, module in run.items():
        runs["forward"][name] = _forward(module, x)
        runs["forward_backward"][name] = _forward_and_backward(module, x, grad)
    if device != "cpu":
        target = torch.empty_like(x)
        runs["forward"]["copy"] = lambda: target.copy_(x)
    row: dict[str, Any] = {"method": choose_method(x, kernel_size)}
    for what, contenders in runs.items():
        times = interleave(contenders, seconds=settings.seconds, device=device)
        row[what] = {name: vars(value) for name, value in times.items()}
    row["peak_mib"] = {
        name: peak_memory(once, device) for name, once in runs["forward_backward"].items()
    }
    return row


def _contenders(
    kernel_size: int, mask: Tensor, device: str, dtype: torch.dtype
) -> dict[str, Callable[[Tensor], Tensor]]:
    shape = {"padding_l": kernel_size // 2, "num_heads": HEADS, "weight_dropout": WEIGHT_DROPOUT}
    of_fairseq: dict[str, nn.Module] = {
        BASE: LightweightConv1dTBC(CHANNELS, kernel_size, weight_softmax=True, **shape),
        "fairseq DynamicConv": DynamicConv1dTBC(
            CHANNELS, kernel_size, weight_softmax=True, **shape
        ),
    }
    of_ours: dict[str, nn.Module] = {
        "plain": LightConv(CHANNELS, kernel_size, HEADS, weight_dropout=WEIGHT_DROPOUT),
        OURS: CGLightConv(CHANNELS, kernel_size, HEADS, weight_dropout=WEIGHT_DROPOUT),
    }
    padding = mask.t().unsqueeze(2)
    run: dict[str, Callable[[Tensor], Tensor]] = {}
    for name, module in of_fairseq.items():
        module.to(device, dtype)
        run[name] = lambda x, module=module: module(x.masked_fill(padding, 0))
    for name, module in of_ours.items():
        module.to(device, dtype)
        run[name] = lambda x, module=module: module(x, mask)
    return run


def _forward(module: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], object]:
    def once() -> None:
        with torch.no_grad():
            module(x)

    return once


def _forward_and_backward(
    module: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor
) -> Callable[[], object]:
    return lambda: module(x.detach().requires_grad_()).backward(grad)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: a row for each shape."""
    lines = [
        f"C {CHANNELS}, H {HEADS}, DropConnect {WEIGHT_DROPOUT}. Milliseconds of {BASE}: median "
        "(quartiles). The others as multiples of it, medians. MiB: peak of forward and backward.",
    ]
    if any("copy" in row["forward"] for row in rows):
        lines.append(
            "Copy: bytes a second of the gated forward pass, input read and output written, as a "
            "share of a plain copy's."
        )
    for dtype in dict.fromkeys(row["dtype"] for row in rows):
        chosen = [row for row in rows if row["dtype"] == dtype]
        names = [name for name in chosen[0]["forward_backward"] if name != BASE]
        with_copy = "copy" in chosen[0]["forward"]
        head = ["T", "B", "K", "ours is", "forward", *names, *(["copy"] if with_copy else [])]
        head += ["and backward", *names, "MiB", *names]
        lines += ["", f"### {dtype}", "", f"| {' | '.join(head)} |", "|" + "---:|" * len(head)]
        for row in chosen:
            cells = [str(row[key]) for key in ("time", "batch", "kernel_size", "method")]
            for what in ("forward", "forward_backward"):
                times = {name: Times(**value) for name, value in row[what].items()}
                cells.append(str(times[BASE]))
                cells += [f"{times[name].median / times[BASE].median:.2f}" for name in names]
                if "copy" in times:
                    cells.append(f"{times['copy'].median / times[OURS].median:.0%}")
            cells += [f"{row['peak_mib'][name]:.0f}" for name in (BASE, *names)]
            lines.append(f"| {' | '.join(cells)} |")
    return lines
