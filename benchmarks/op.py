#!/usr/bin/env python3
"""The gated convolution beside fairseq's lightweight convolution without a gate.

    python benchmarks/op.py [--quick] [--out benchmarks/results/DATE-op-cpu]

Both get the same padded batch of about 3,584 tokens at each length, and both set the padding to
zero first, as fairseq's encoder layer does. One process, the contenders in turn.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from fairseq.modules.lightweight_convolution import LightweightConv1dTBC
from timing import Times, interleave, peak_memory
from tqdm import tqdm

from fairseq_cgc.core import CGLightConv
from fairseq_cgc.core.functional import choose_method
from fairseq_cgc.mt.environment import describe_machine, versions

CHANNELS, HEADS, TOKENS = 512, 4, 3584
WEIGHT_DROPOUT = 0.1
LENGTHS = [8, 16, 28, 64, 128, 256, 512, 1024, 2048]
KERNELS = [3, 7, 15, 31]
QUICK = ([28, 128, 1024], [3, 31])


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few lengths and kernels")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row (%(default)s)")
    parser.add_argument("--out", type=Path, help="folder for README.md and op.json")
    args = parser.parse_args()
    lengths, kernels = QUICK if args.quick else (LENGTHS, KERNELS)
    shapes = [(time, kernel) for kernel in kernels for time in lengths]
    rows = [measure(time, kernel, args.seconds) for time, kernel in tqdm(shapes, unit="row")]
    text = report(rows)
    print(text)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "README.md").write_text(text, encoding="utf-8")
        (args.out / "op.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measure(time: int, kernel_size: int, seconds: float) -> dict[str, object]:
    """One row: forward, forward and backward, and memory of both."""
    torch.manual_seed(0)
    batch = max(1, TOKENS // time)
    x = torch.randn(time, batch, CHANNELS)
    # Sentences of 60 to 100 % of the length, padded on the left as in fairseq's training.
    mask = torch.arange(time) < (torch.rand(batch, 1) * 0.4 * time).long()
    ours = CGLightConv(CHANNELS, kernel_size, HEADS, weight_dropout=WEIGHT_DROPOUT)
    theirs = LightweightConv1dTBC(
        CHANNELS,
        kernel_size,
        padding_l=kernel_size // 2,
        num_heads=HEADS,
        weight_dropout=WEIGHT_DROPOUT,
        weight_softmax=True,
    )
    run: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "fairseq": lambda x: theirs(x.masked_fill(mask.t().unsqueeze(2), 0)),
        "ours": lambda x: ours(x, mask),
    }

    def forward(name: str) -> Callable[[], object]:
        def once() -> None:
            with torch.no_grad():
                run[name](x)

        return once

    def both(name: str) -> Callable[[], object]:
        def once() -> None:
            run[name](x.detach().requires_grad_()).sum().backward()

        return once

    row: dict[str, object] = {"time": time, "batch": batch, "kernel_size": kernel_size}
    row["method"] = choose_method(time, kernel_size)
    for what, make in (("forward", forward), ("forward_backward", both)):
        times = interleave({name: make(name) for name in run}, seconds=seconds / 2)
        row[what] = {name: vars(value) for name, value in times.items()}
    row["peak_mib"] = {name: peak_memory(both(name)) for name in run}
    return row


def report(rows: list[dict[str, object]]) -> str:
    """The table as Markdown, with what produced it."""
    command = shlex.join(["python", *sys.argv])
    of_versions = ", ".join(f"{name} {value}" for name, value in versions().items())
    lines = [
        "# The gated convolution beside fairseq's lightweight convolution",
        "",
        f"C {CHANNELS}, H {HEADS}, about {TOKENS} tokens a batch, DropConnect {WEIGHT_DROPOUT}, "
        "float32. Milliseconds: median (quartiles) of interleaved rounds. Ratio: ours with the "
        "gate over fairseq's without; memory: growth of the process, forward and backward, MiB.",
        "",
        "| T | B | K | way | forward: fairseq | ours | ratio | forward + backward: fairseq | ours "
        "| ratio | MiB: fairseq | ours |",
        "|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [str(row[key]) for key in ("time", "batch", "kernel_size", "method")]
        for what in ("forward", "forward_backward"):
            times = {name: Times(**values) for name, values in row[what].items()}  # type: ignore
            cells += [_milliseconds(times["fairseq"]), _milliseconds(times["ours"])]
            cells.append(f"{times['ours'].median / times['fairseq'].median:.2f}")
        cells += [f"{row['peak_mib'][name]:.0f}" for name in ("fairseq", "ours")]  # type: ignore
        lines.append(f"| {' | '.join(cells)} |")
    threads = torch.get_num_threads()
    lines += [
        "",
        f"`{command}`; {describe_machine(cpu=True)}, {threads} threads; {of_versions}.",
        "",
    ]
    return "\n".join(lines)


def _milliseconds(times: Times) -> str:
    low, high = 1000 * times.low, 1000 * times.high
    return f"{1000 * times.median:.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
