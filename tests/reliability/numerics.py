"""Train in half precision, put in extreme numbers, and batch sentences in every way.

    python tests/reliability/numerics.py --updates 2000 --batches 1000 --work /tmp/numerics

1. A small model is trained with --fp16 and with --bf16, a loss scale that overflows again and
   again included. An update is lost if a gate was not finite in it, or was not made.
2. Extreme inputs in float32, float16 and bfloat16. A case is lost if an output or a gradient is
   not finite.
3. Random batches. One is lost if a sentence's output is not the same alone: CGLightConv to 1e-6 in
   float32, the encoder to 1e-12 in float64, relative to the largest output.

A finished part is not done again; a training goes on from its last checkpoint. The last line is
``numerics: tried N, survived N, lost N``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what pytest does for the tests

import toy  # noqa: E402
from half_precision_training import train  # noqa: E402
from numeric_checks import extreme_cases, independence  # noqa: E402

CONVOLUTION_TOLERANCE, ENCODER_TOLERANCE = 1e-6, 1e-12


@dataclass(frozen=True)
class Result:
    """How a part ended."""

    tried: int
    lost: int


def try_training(precision: str, updates: int, work: Path) -> Result:
    """Train; the updates whose gates or whose end were not finite are lost."""
    data = work / "bin"
    if not data.exists():
        toy.binarise(toy.write_corpus(work / "text", train=3000), data)
    told = train(data, work / precision, precision, updates)
    print(
        f"{precision}: {told.updates} updates, {told.gates} gates, {told.overflows} overflows, "
        f"loss scale from {told.scales[0]:g} down to {told.scales[1]:g}, "
        f"loss {told.first_loss:.3f} to {told.last_loss:.3f}",
        file=sys.stderr,
    )
    return Result(updates, min(updates, told.not_finite + updates - told.updates))


def try_extremes() -> Result:
    """Every extreme case once."""
    tried = lost = 0
    for name, check in extreme_cases():
        tried += 1
        if not check():
            lost += 1
            print(f"not finite: {name}", file=sys.stderr)
    return Result(tried, lost)


def try_batches(number: int) -> Result:
    """Random batches, and the largest differences."""
    lost = 0
    worst = [0.0, 0.0]
    for seed in range(number):
        found = independence(seed)
        worst = [max(pair) for pair in zip(worst, found, strict=True)]
        if found[0] > CONVOLUTION_TOLERANCE or found[1] > ENCODER_TOLERANCE:
            lost += 1
            print(f"batch {seed} differs: {found}", file=sys.stderr)
    print(f"batches: CGLightConv {worst[0]:.2g}, encoder {worst[1]:.2g} at most", file=sys.stderr)
    return Result(number, lost)


def main() -> None:
    """Parse the arguments and do what is not done yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=2000, help="a precision (%(default)s)")
    parser.add_argument("--batches", type=int, default=1000, help="random ones (%(default)s)")
    parser.add_argument("--work", type=Path, required=True, help="folder for data and progress")
    args = parser.parse_args()
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    parts: dict[str, Callable[[], Result]] = {
        f"fp16 {args.updates}": lambda: try_training("fp16", args.updates, work),
        f"bf16 {args.updates}": lambda: try_training("bf16", args.updates, work),
        "extremes": try_extremes,
        f"batches {args.batches}": lambda: try_batches(args.batches),
    }
    progress = work / "progress.json"
    done = json.loads(progress.read_text()) if progress.exists() else {}
    for name, part in parts.items():
        if name not in done:
            done[name] = asdict(part())
            progress.write_text(json.dumps(done))
        print(f"{name}: {done[name]}", file=sys.stderr)
    tried, lost = (sum(done[name][what] for name in parts) for what in ("tried", "lost"))
    print(f"numerics: tried {tried}, survived {tried - lost}, lost {lost}")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
