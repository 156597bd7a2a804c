#!/usr/bin/env python3
"""Measure this package beside fairseq: convolutions, training steps and beam search.

    python benchmarks/run.py --quick                              a few minutes on two cores
    python benchmarks/run.py --out benchmarks/results/DATE-cpu    about twenty

All contenders run in turn in one process. Each finished row is written to DIR/SECTION.json and each
finished section to DIR/README.md. After an interruption, the same command measures what is missing.
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
from typing import Any, NamedTuple

import torch
from timing import Settings
from tqdm import tqdm

from fairseq_cgc.support.command_line import run_main
from fairseq_cgc.support.environment import describe_machine, versions
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import new_file, write_json

PRECISIONS = ("float32", "bfloat16", "float16")


class Section(NamedTuple):
    """A module beside this one, with functions ``shapes``, ``measure`` and ``table``."""

    title: str
    pictures: dict[str, str]
    """File -> what it shows; they are drawn by ``pictures.draw_SECTION``."""


SECTIONS = {
    "op": Section(
        "The convolution",
        {"time.png": "Time and memory over the length", "batch.png": "Time over the batch size"},
    ),
    "step": Section("Training steps", {}),
    "decode": Section("Beam search", {"decode.png": "Sentences per second over the batch size"}),
    "conv": Section("Image convolutions", {}),
    "images": Section("Training steps of images", {}),
}


def main() -> None:
    """Measure, and print and write the tables."""
    settings, sections, out = _parse()
    # A shell that starts this in the background may have made it ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    lines = ["# Speed", ""]
    whole = True
    for name in sections:
        rows, whole = measure(name, settings, out, only_kept=not whole)
        if not rows:
            continue
        section = SECTIONS[name]
        lines += [f"## {section.title}", "", *importlib.import_module(name).table(rows), ""]
        all_rows = whole and not settings.quick and settings.precision is None
        if out is not None and section.pictures and all_rows:
            getattr(importlib.import_module("pictures"), f"draw_{name}")(rows, out)
            for file, text in section.pictures.items():
                lines += [f"![{text}]({file})", ""]
        if out is not None:
            with new_file(out / "README.md") as partial:
                text = "\n".join([*lines, _produced_by(settings), ""])
                partial.write_text(text, encoding="utf-8")
    print("\n".join([*lines, _produced_by(settings), ""]))
    print(f"{time.monotonic() - started:.0f} s in all", file=sys.stderr)
    if not whole:
        raise KeyboardInterrupt


def _parse() -> tuple[Settings, list[str], Path | None]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few and small rows")
    parser.add_argument(
        "--sections", default=",".join(SECTIONS), help="sections, separated by commas (%(default)s)"
    )
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cpu", help="device (%(default)s)"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="only the rows in this precision (all); decode always compares all precisions",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        help="seconds for each number of op and conv (1; with --quick: 0.5; on a GPU: 0.2)",
    )
    parser.add_argument("--threads", type=int, help="threads of PyTorch (PyTorch's choice)")
    parser.add_argument(
        "--checkpoint", type=Path, help="also decode with this trained lightconv_cgc model"
    )
    parser.add_argument("--data", type=Path, help="binarised data for --checkpoint (test set)")
    parser.add_argument("--out", type=Path, help="folder for tables, JSON and pictures (none)")
    args = parser.parse_args()
    sections = args.sections.split(",")
    for name in sections:
        if name not in SECTIONS:
            raise UserError(f"--sections has {name!r}, but must be of {', '.join(SECTIONS)}")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device is cuda, but torch sees no GPU")
    if (args.checkpoint is None) != (args.data is None):
        raise UserError("--checkpoint and --data must be given together")
    if args.checkpoint is not None and not args.checkpoint.is_file():
        raise UserError(f"--checkpoint {args.checkpoint} is no file")
    for name, least in (("threads", 1), ("seconds", 0)):
        if (value := getattr(args, name)) is not None and not value >= least:
            raise UserError(f"--{name} is {value}, but must be at least {least}")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    seconds = 0.2 if args.device == "cuda" else 0.5 if args.quick else 1.0
    settings = Settings(
        device=args.device,
        quick=args.quick,
        precision=args.precision,
        seconds=args.seconds or seconds,
        checkpoint=args.checkpoint,
        data=args.data,
    )
    return settings, sections, args.out


def measure(
    section: str, settings: Settings, out: Path | None, *, only_kept: bool = False
) -> tuple[list[dict[str, Any]], bool]:
    """The rows of a section: those that an earlier run left in ``out``, and the others measured.

    Args:
        section: a key of :data:`SECTIONS`.
        settings: of the measurements; rows measured with others do not count.
        out: the folder in which rows are kept, if any.
        only_kept: measure nothing.

    Returns:
        The rows, and whether they are complete: Ctrl-C ends the measurements, not the program.
    """
    module = importlib.import_module(section)
    path = out / f"{section}.json" if out is not None else None
    key = {
        "machine": describe_machine(cpu=settings.device == "cpu"),
        **versions(),
        "threads": torch.get_num_threads(),
        "settings": {name: str(value) for name, value in vars(settings).items()},
    }
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
            write_json(path, {"date": str(date.today()), "key": key, "rows": done})
    return done, True


def _produced_by(settings: Settings) -> str:
    command = shlex.join(["python", *sys.argv])
    machine = describe_machine(cpu=settings.device == "cpu")
    of_versions = ", ".join(f"{name} {value}" for name, value in versions().items())
    threads = torch.get_num_threads()
    return f"`{command}`, {date.today()}; {machine}, threads: {threads}; {of_versions}."


if __name__ == "__main__":
    run_main(main)
