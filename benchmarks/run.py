#!/usr/bin/env python3
"""Measure this package beside fairseq: convolutions, training steps and beam search.

    python benchmarks/run.py --quick                 a few minutes on two cores
    python benchmarks/run.py --out benchmarks/results/DATE-cpu      about twenty

One process, the contenders in turn. Every finished row is kept in DIR/SECTION.json: run the same
command again after an interruption, and it goes on from there.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import signal
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch
from settings import Settings
from tqdm import tqdm

from fairseq_cgc.core import UserError
from fairseq_cgc.support.command_line import run_main
from fairseq_cgc.support.environment import describe_machine, versions

PRECISIONS = ("float32", "bfloat16", "float16")
SECTIONS = {
    "op": "The convolution",
    "step": "Training steps",
    "decode": "Beam search",
    "conv": "Image convolutions",
}
#: Section -> file -> what it shows.
PICTURES = {
    "op": {"time.png": "Time and memory over the length", "batch.png": "Time over the batch"},
    "decode": {"decode.png": "Sentences a second over the batch"},
}


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few and small rows")
    parser.add_argument(
        "--sections", default=",".join(SECTIONS), help="which, comma-separated (%(default)s)"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="(%(default)s)")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="only the rows of this one (all that there are; decode always compares all)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        help="for the rounds of one figure of op and conv (1; quick: 0.5; on a GPU 0.2)",
    )
    parser.add_argument("--threads", type=int, help="of PyTorch (default: its own choice)")
    parser.add_argument(
        "--checkpoint", type=Path, help="decode with this trained lightconv_cgc model too"
    )
    parser.add_argument("--data", type=Path, help="binarised data for --checkpoint (its test set)")
    parser.add_argument("--out", type=Path, help="folder for tables, JSON and pictures")
    args = parser.parse_args()
    chosen = args.sections.split(",")
    for section in chosen:
        if section not in SECTIONS:
            raise UserError(f"--sections has {section!r}, but must be of {', '.join(SECTIONS)}")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device is cuda, but torch sees no GPU")
    if (args.checkpoint is None) != (args.data is None):
        raise UserError("--checkpoint and --data go together")
    if args.checkpoint is not None and not args.checkpoint.is_file():
        raise UserError(f"--checkpoint {args.checkpoint} is no file")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    settings = Settings(
        device=args.device,
        quick=args.quick,
        precision=args.precision,
        seconds=args.seconds or _seconds(args.device, quick=args.quick),
        checkpoint=args.checkpoint,
        data=args.data,
    )
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    # Where the shell that started this ignores Ctrl-C, as in the background, Python would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    lines = ["# Speed", ""]
    whole = True
    for section in chosen:
        rows, whole = measure(section, settings, args.out, only_kept=not whole)
        if not rows:
            continue
        lines += [f"## {SECTIONS[section]}", "", *_module(section).table(rows), ""]
        if (
            args.out is not None
            and section in PICTURES
            and whole
            and not (args.quick or args.precision)
        ):
            import pictures

            getattr(pictures, f"draw_{section}")(rows, args.out)
            lines += [
                line
                for name, text in PICTURES[section].items()
                for line in (f"![{text}]({name})", "")
            ]
    lines += [_produced_by(settings), ""]
    text = "\n".join(lines)
    print(text)
    if args.out is not None:
        (args.out / "README.md").write_text(text, encoding="utf-8")
    print(f"{time.monotonic() - started:.0f} s in all", file=sys.stderr)
    if not whole:
        raise KeyboardInterrupt


def measure(
    section: str, settings: Settings, out: Path | None, *, only_kept: bool = False
) -> tuple[list[dict[str, Any]], bool]:
    """The rows of a section: those that ``out`` has from an earlier run, and the others now.

    Args:
        section: a key of :data:`SECTIONS`.
        settings: of all benchmarks.
        out: the folder with the rows, if they are kept.
        only_kept: measure nothing.

    Returns:
        The rows, and whether these are all: what was measured before Ctrl-C makes a table too.
    """
    module = _module(section)
    path = out / f"{section}.json" if out is not None else None
    key = {"machine": describe_machine(cpu=settings.device == "cpu"), **versions()}
    key |= {"threads": torch.get_num_threads(), "settings": _plain(settings)}
    rows: list[dict[str, Any]] = []
    if path is not None and path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        rows = kept["rows"] if kept["key"] == key else []
    shapes = [
        shape
        for shape in module.shapes(settings)
        if settings.precision in (None, shape.get("precision", settings.precision))
    ]
    done = [row for row in rows if any(shape.items() <= row.items() for shape in shapes)]
    missing = [shape for shape in shapes if not any(shape.items() <= row.items() for row in done)]
    if only_kept:
        return done, False
    for shape in tqdm(missing, unit="row", desc=section):
        try:
            done.append({**shape, **module.measure(shape, settings)})
        except KeyboardInterrupt:
            return done, False
        if path is not None:
            partial = path.with_name(f".{path.name}.partial")
            content = {"date": str(date.today()), "key": key, "rows": done}
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            partial.replace(path)
    return done, True


def _seconds(device: str, *, quick: bool) -> float:
    if device == "cuda":
        return 0.2
    return 0.5 if quick else 1.0


def _module(section: str) -> Any:
    return importlib.import_module(section)


def _plain(settings: Settings) -> dict[str, Any]:
    return {name: str(value) for name, value in vars(settings).items()}


def _produced_by(settings: Settings) -> str:
    command = shlex.join(["python", *sys.argv])
    machine = describe_machine(cpu=settings.device == "cpu")
    of_versions = ", ".join(f"{name} {value}" for name, value in versions().items())
    threads = torch.get_num_threads()
    return f"`{command}`, {date.today()}; {machine}, {threads} threads; {of_versions}."


if __name__ == "__main__":
    run_main(main)
