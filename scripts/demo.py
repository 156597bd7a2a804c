#!/usr/bin/env python3
"""Corpus, training, evaluation and pictures in a few minutes; run by scripts/demo.sh."""

from __future__ import annotations

import argparse
from pathlib import Path

from fairseq_cgc.demo.run import run_demo
from fairseq_cgc.mt.fairseq_commands import run_main


def main() -> None:
    """Parse the command line and run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("demo"), help="folder to work in (%(default)s)"
    )
    run_demo(parser.parse_args().out)


if __name__ == "__main__":
    run_main(main)
