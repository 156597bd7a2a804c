"""The convolution, with a gate and without, beside fairseq's LightConv and DynamicConv.

All get the same padded batch of about 3,584 tokens, the size of a training batch at IWSLT'14's
lengths, and set the padding to zero first, as fairseq's encoder layer does. On a GPU there are
rows of 65,536 tokens too, more than its caches hold; and fairseq's own CUDA kernel, if
``lightconv_cuda`` can be imported, which is built from fairseq's repository and is in none of its
packages. That kernel has no bfloat16, and drops a tap for all positions of a batch at once.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from fairseq.modules.dynamic_convolution import DynamicConv1dTBC
from fairseq.modules.lightweight_convolution import LightweightConv1dTBC
from settings import Settings
from timing import Times, gpu_times, interleave, peak_memory
from torch import Tensor, nn

from fairseq_cgc.core import CGLightConv, LightConv
from fairseq_cgc.core.functional import choose_method
from fairseq_cgc.support.tables import markdown

CHANNELS, HEADS, TOKENS, MANY_TOKENS = 512, 4, 3584, 65536
WEIGHT_DROPOUT = 0.1
LENGTHS = [8, 16, 28, 64, 128, 256, 512, 1024, 2048]
MANY_TOKENS_UP_TO = 1024
KERNELS = [3, 7, 15, 31]
#: On a GPU, where every size is compiled for.
GPU_KERNELS = {"bfloat16": KERNELS, "float32": [7, 31], "float16": [31]}
BATCHES = [8, 32, 128, 512]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BASE, OURS, CUDA_KERNEL, COPY = "fairseq LightConv", "gated", "fairseq CUDA", "copy"


def shapes(settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows to measure: over lengths and kernels, then over batch sizes."""
    if settings.quick:
        for time, kernel_size in ((28, 3), (28, 31), (128, 31), (1024, 3), (1024, 31)):
            yield _shape(time, TOKENS // time, kernel_size, "float32")
        yield _shape(28, TOKENS // 28, 31, "bfloat16")
        return
    kernels = GPU_KERNELS
    if settings.device == "cpu":
        kernels = dict.fromkeys(("float32", "bfloat16"), KERNELS)
    else:
        for kernel_size in GPU_KERNELS["float32"]:
            for time in LENGTHS:
                if time <= MANY_TOKENS_UP_TO:
                    yield _shape(time, MANY_TOKENS // time, kernel_size, "bfloat16")
    for precision, sizes in kernels.items():
        for kernel_size in sizes:
            for time in LENGTHS:
                yield _shape(time, max(1, TOKENS // time), kernel_size, precision)
    for batch in BATCHES:
        if batch != TOKENS // 28:
            yield _shape(28, batch, 31, "float32")


def _shape(time: int, batch: int, kernel_size: int, precision: str) -> dict[str, Any]:
    return {"time": time, "batch": batch, "kernel_size": kernel_size, "precision": precision}


def measure(shape: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """One row: seconds forward, and forward and backward; MiB for both."""
    torch.manual_seed(0)
    device, dtype = settings.device, DTYPES[shape["precision"]]
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
    row: dict[str, Any] = {"method": choose_method(x, kernel_size)}
    for what, contenders in runs.items():
        times = interleave(contenders, seconds=settings.seconds, device=device)
        row[what] = {name: vars(value) for name, value in times.items()}
    if device != "cpu":
        target = torch.empty_like(x)
        runs["forward"][COPY] = lambda: target.copy_(x)
        row["gpu"] = {
            what: {
                name: vars(value)
                for name, value in gpu_times(contenders, seconds=settings.seconds).items()
            }
            for what, contenders in runs.items()
        }
        del runs["forward"][COPY]
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
    if device != "cpu" and dtype != torch.bfloat16 and (layer := _fairseqs_kernel()):
        of_fairseq[CUDA_KERNEL] = layer(CHANNELS, kernel_size, weight_softmax=True, **shape)
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


@functools.cache
def _fairseqs_kernel() -> Any:
    """The layer of fairseq's CUDA kernel, or None where it is not built, or not for this GPU."""
    try:
        layer = importlib.import_module("fairseq.modules.lightconv_layer").LightconvLayer
    except ImportError:
        return None
    # Where the GPU refuses the kernel, nothing is said: its output stays zero.
    options = {"padding_l": 1, "num_heads": 2, "weight_softmax": True}
    kernel, same = (make(4, 3, **options).cuda() for make in (layer, LightweightConv1dTBC))
    kernel.weight = nn.Parameter(same.weight.detach().squeeze(1))
    x = torch.randn(5, 2, 4, device="cuda")
    return layer if torch.allclose(kernel(x), same(x), atol=1e-4) else None


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
    on_gpu = any("gpu" in row for row in rows)
    if on_gpu and not any(CUDA_KERNEL in row["forward"] for row in rows):
        lines += ["", "Without fairseq's own CUDA kernel: there is no lightconv_cuda that works."]
    for precision in dict.fromkeys(row["precision"] for row in rows):
        chosen = [row for row in rows if row["precision"] == precision]
        how = ", called one after another" if on_gpu else ""
        lines += ["", f"### {precision}{how}", "", *_times_table(chosen)]
        if on_gpu:
            lines += ["", f"### {precision}, the GPU's own time, no data in its caches", ""]
            lines += _gpu_table(chosen)
    return lines


def _times_table(rows: list[dict[str, Any]]) -> list[str]:
    names = [name for name in rows[0]["forward_backward"] if name != BASE]
    head = ("T", "B", "K", "ours is", "forward", *names, "and backward", *names, "MiB", *names)
    lines = []
    for row in rows:
        cells = [str(row[key]) for key in ("time", "batch", "kernel_size", "method")]
        for what in ("forward", "forward_backward"):
            cells += _ratios(row[what], names)
        cells += [f"{row['peak_mib'][name]:.0f}" for name in (BASE, *names)]
        lines.append(cells)
    return [*markdown(head, lines)]


def _gpu_table(rows: list[dict[str, Any]]) -> list[str]:
    """GB/s: bytes of a copy's input and output; and what the gated forward pass has of that."""
    names = [name for name in rows[0]["forward_backward"] if name != BASE]
    head = ("T", "B", "K", "forward", *names, "copy, GB/s", "gated", "and backward", *names)
    lines = []
    for row in rows:
        cells = [str(row[key]) for key in ("time", "batch", "kernel_size")]
        forward = row["gpu"]["forward"]
        numbers = 2 * row["time"] * row["batch"] * CHANNELS
        copied = numbers * DTYPES[row["precision"]].itemsize / forward[COPY]["median"]
        cells += [*_ratios(forward, names), f"{copied / 1e9:.0f}"]
        cells.append(f"{forward[COPY]['median'] / forward[OURS]['median']:.0%}")
        cells += _ratios(row["gpu"]["forward_backward"], names)
        lines.append(cells)
    return [*markdown(head, lines)]


def _ratios(found: dict[str, Any], names: list[str]) -> list[str]:
    times = {name: Times(**value) for name, value in found.items()}
    return [str(times[BASE]), *(f"{times[name].median / times[BASE].median:.2f}" for name in names)]
