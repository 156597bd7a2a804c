"""Corpus, training, scores and pictures in minutes.

    fairseq-cgc demo --out demo

The corpus is generated, so no network is needed. Run again, it continues where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--out", type=Path, default=Path("demo"), help="folder to work in (%(default)s)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the demo."""
    from fairseq_cgc.demo.run import run_demo

    run_demo(arguments.out)
