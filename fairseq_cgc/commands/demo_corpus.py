"""Write a generated German-English corpus.

    fairseq-cgc demo-corpus OUT

The sentences come from a seeded grammar; no network is needed. OUT gets train.de, train.en,
valid.de, valid.en, test.de and test.en: raw text, one sentence a line. The same sizes and seed give
the same bytes on every machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from fairseq_cgc.demo import MAX_PAIRS

    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    parser.add_argument(
        "--train", type=int, default=12000, metavar="N",
        help=f"training pairs; at most {MAX_PAIRS} in all splits together (%(default)s)",
    )  # fmt: skip
    for split, name in (("valid", "validation"), ("test", "test")):
        parser.add_argument(
            f"--{split}", type=int, default=500, metavar="N", help=f"{name} pairs (%(default)s)"
        )
    parser.add_argument("--seed", type=int, default=1, help="seed of the sentences (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Write the corpus and say where it is."""
    from fairseq_cgc.demo import write_corpus

    sizes = {split: getattr(arguments, split) for split in ("train", "valid", "test")}
    write_corpus(arguments.out, **sizes, seed=arguments.seed)
    pairs = ", ".join(f"{split} {size}" for split, size in sizes.items())
    print(f"{arguments.out}: {pairs} pairs")
