"""The convolution, with and without a gate, beside fairseq's LightConv and DynamicConv.

All contenders get the same padded batch of about 3,584 tokens, the size of a training batch at
IWSLT'14's lengths, and first set the padding to zero, as fairseq's encoder layer does. On a GPU
there are also rows of 65,536 tokens, which exceed its caches, and fairseq's own CUDA kernel if
``lightconv_cuda`` can be imported; it is built from fairseq's repository and is in none of its
packages. That kernel has no bfloat16, and drops a tap for all positions of a batch at once.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
from fairseq.modules.dynamic_convolution import DynamicConv1dTBC
from fairseq.modules.lightweight_convolution import LightweightConv1dTBC
from timing import Contenders, Settings, compared, gpu_times, measure_passes
from torch import Tensor, nn

from fairseq_cgc.core import CGLightConv, LightConv
from fairseq_cgc.core.functional import choose_method
from fairseq_cgc.support.tables import markdown

CHANNELS, HEADS, TOKENS, MANY_TOKENS = 512, 4, 3584, 65536
WEIGHT_DROPOUT = 0.1
LENGTHS = [8, 16, 28, 64, 128, 256, 512, 1024, 2048]
MANY_TOKENS_UP_TO = 1024
KERNELS = [3, 7, 15, 31]
#: Fewer on a GPU, where each size has to be compiled.
GPU_KERNELS = {"bfloat16": KERNELS, "float32": [7, 31], "float16": [31]}
BATCHES = [8, 32, 128, 512]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BASE, OURS, CUDA_KERNEL, COPY = "fairseq LightConv", "gated", "fairseq CUDA", "copy"


def shapes(settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows to measure: all lengths and kernels, then batch sizes."""
    if settings.quick:
        for time, kernel_size in ((28, 3), (28, 31), (128, 31), (1024, 3), (1024, 31)):
            yield _shape(time, TOKENS // time, kernel_size, "float32")
        yield _shape(28, TOKENS // 28, 31, "bfloat16")
        return
    kernels = GPU_KERNELS
    if settings.device == "cpu":
        kernels = {"float32": KERNELS, "bfloat16": [3, 31]}
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
    """A row: seconds of the forward pass and of both passes, and MiB of both."""
    torch.manual_seed(0)
    device, dtype = settings.device, DTYPES[shape["precision"]]
    time, batch, kernel_size = shape["time"], shape["batch"], shape["kernel_size"]
    x = torch.randn(time, batch, CHANNELS, device=device, dtype=dtype)
    grad = torch.randn_like(x)
    # Sentences have 60 to 100 % of the length and are padded on the left, as fairseq's are.
    mask = torch.arange(time) < (torch.rand(batch, 1) * 0.4 * time).long()
    mask = mask.to(device)
    modules = _contenders(kernel_size, mask, device, dtype).items()
    forward: dict[str, Callable[[], object]] = {
        name: partial(_forward, module, x) for name, module in modules
    }
    both = {name: partial(_forward_backward, module, x, grad) for name, module in modules}
    passes: dict[str, Contenders] = {"forward": forward, "forward_backward": both}
    row = {"method": choose_method(x, kernel_size), **measure_passes(passes, settings)}
    if device != "cpu":
        target = torch.empty_like(x)
        forward[COPY] = lambda: target.copy_(x)
        row["gpu"] = {}
        for what, contenders in passes.items():
            times = gpu_times(contenders, seconds=settings.seconds)
            row["gpu"][what] = {name: vars(value) for name, value in times.items()}
    return row


def _forward(module: Callable[[Tensor], Tensor], x: Tensor) -> None:
    with torch.no_grad():
        module(x)


def _forward_backward(module: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> None:
    module(x.detach().requires_grad_()).backward(grad)


def _contenders(
    kernel_size: int, mask: Tensor, device: str, dtype: torch.dtype
) -> dict[str, Callable[[Tensor], Tensor]]:
    shape = {"padding_l": kernel_size // 2, "num_heads": HEADS, "weight_dropout": WEIGHT_DROPOUT}
    layers = {BASE: LightweightConv1dTBC, "fairseq DynamicConv": DynamicConv1dTBC}
    if device != "cpu" and dtype != torch.bfloat16 and (layer := _fairseqs_kernel()):
        layers[CUDA_KERNEL] = layer
    padding = mask.t().unsqueeze(2)
    found: dict[str, Callable[[Tensor], Tensor]] = {}
    for name, layer in layers.items():
        theirs = layer(CHANNELS, kernel_size, weight_softmax=True, **shape).to(device, dtype)
        found[name] = lambda x, theirs=theirs: theirs(x.masked_fill(padding, 0))
    for name, kind in (("plain", LightConv), (OURS, CGLightConv)):
        ours = kind(CHANNELS, kernel_size, HEADS, weight_dropout=WEIGHT_DROPOUT).to(device, dtype)
        found[name] = partial(ours, padding_mask=mask)
    return found


@cache
def _fairseqs_kernel() -> Any:
    """The layer of fairseq's CUDA kernel; None if it is not built, or not for this GPU."""
    try:
        layer = importlib.import_module("fairseq.modules.lightconv_layer").LightconvLayer
    except ImportError:
        return None
    # Where the GPU refuses the kernel, there is no error, but the output stays zero.
    options = {"padding_l": 1, "num_heads": 2, "weight_softmax": True}
    kernel, same = (make(4, 3, **options).cuda() for make in (layer, LightweightConv1dTBC))
    kernel.weight = nn.Parameter(same.weight.detach().squeeze(1))
    x = torch.randn(5, 2, 4, device="cuda")
    return layer if torch.allclose(kernel(x), same(x), atol=1e-4) else None


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: a row for each shape."""
    lines = [
        f"The convolution has C = {CHANNELS}, H = {HEADS} and DropConnect {WEIGHT_DROPOUT}. The "
        f"columns `forward` and `and backward` are the milliseconds of {BASE}, as median "
        "(quartiles); the columns after each are multiples of that median. The last columns are "
        "the peak memory of both passes.",
    ]
    on_gpu = any("gpu" in row for row in rows)
    if on_gpu and not any(CUDA_KERNEL in row["forward"] for row in rows):
        lines += [
            "",
            "fairseq's own CUDA kernel is left out: there is no lightconv_cuda that works.",
        ]
    for precision in dict.fromkeys(row["precision"] for row in rows):
        chosen = [row for row in rows if row["precision"] == precision]
        how = ", in a series of calls" if on_gpu else ""
        lines += ["", f"### {precision}{how}", "", *_times_table(chosen)]
        if on_gpu:
            lines += ["", f"### {precision}, the GPU's own time with cold caches", ""]
            lines += _gpu_table(chosen)
    return lines


def _times_table(rows: list[dict[str, Any]]) -> list[str]:
    names = [name for name in rows[0]["forward_backward"] if name != BASE]
    head = ("T", "B", "K", "ours", "forward", *names, "and backward", *names, "MiB", *names)
    lines = []
    for row in rows:
        cells = [str(row[key]) for key in ("time", "batch", "kernel_size", "method")]
        for what in ("forward", "forward_backward"):
            cells += compared(row[what], BASE, names)
        cells += [f"{row['peak_mib'][name]:.0f}" for name in (BASE, *names)]
        lines.append(cells)
    return [*markdown(head, lines)]


def _gpu_table(rows: list[dict[str, Any]]) -> list[str]:
    """Bandwidth of a copy in GB/s (read and written), and the gated forward pass's share of it."""
    names = [name for name in rows[0]["forward_backward"] if name != BASE]
    head = ("T", "B", "K", "forward", *names, "copy, GB/s", "gated", "and backward", *names)
    lines = []
    for row in rows:
        cells = [str(row[key]) for key in ("time", "batch", "kernel_size")]
        forward = row["gpu"]["forward"]
        numbers = 2 * row["time"] * row["batch"] * CHANNELS
        copied = numbers * DTYPES[row["precision"]].itemsize / forward[COPY]["median"]
        cells += [*compared(forward, BASE, names), f"{copied / 1e9:.0f}"]
        cells.append(f"{forward[COPY]['median'] / forward[OURS]['median']:.0%}")
        cells += compared(row["gpu"]["forward_backward"], BASE, names)
        lines.append(cells)
    return [*markdown(head, lines)]
