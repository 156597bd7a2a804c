#!/usr/bin/env python3
"""Write a German-English demo corpus from a seeded grammar; needs no network.

OUT gets train.de, train.en, valid.de, valid.en, test.de and test.en: raw text, one sentence a
line. The same sizes and seed give the same bytes everywhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fairseq_cgc.demo import MAX_PAIRS, write_corpus
from fairseq_cgc.mt.fairseq_commands import run_main


def main() -> None:
    """Parse the arguments, write the corpus, say where it is."""
    args = parse_args()
    write_corpus(args.out, train=args.train, valid=args.valid, test=args.test, seed=args.seed)
    print(f"{args.out}: train {args.train}, valid {args.valid}, test {args.test} pairs")


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    together = f"; at most {MAX_PAIRS} in all splits together"
    parser.add_argument("--train", type=int, default=12000, help=f"training pairs{together}")
    parser.add_argument("--valid", type=int, default=500, help="validation pairs")
    parser.add_argument("--test", type=int, default=500, help="test pairs")
    parser.add_argument("--seed", type=int, default=1, help="seed of the sentences")
    return parser.parse_args()


if __name__ == "__main__":
    run_main(main)
