#!/usr/bin/env python3
"""Tokenise text as Moses' tokenizer.perl does, one sentence a line, order kept.

    python scripts/moses_tokenize.py --lang de < in > out
    python scripts/moses_tokenize.py --lang de --lowercase --normalize < in > out

The steps are lower case, normalise punctuation, tokenise. Special characters are escaped
(&apos;), dashes within words stay.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys

from fairseq_cgc.inference.text.lines import decode_lines
from fairseq_cgc.inference.text.moses import MosesEncoder, check_language
from fairseq_cgc.inference.text.parallel import check_workers, map_lines
from fairseq_cgc.mt.fairseq_commands import print_lines, run_main


def main() -> None:
    """Parse the command line and tokenise standard input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--lang", required=True, help="language of the text, such as de, deu or de_DE"
    )
    parser.add_argument(
        "--lowercase", action="store_true", help="lower-case first (lowercase.perl)"
    )
    parser.add_argument(
        "--normalize", action="store_true",
        help="normalise punctuation before tokenising (normalize-punctuation.perl)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1,
        help="number of processes; with 1, each line is printed at once (%(default)s)",
    )  # fmt: skip
    args = parser.parse_args()
    check_language(args.lang, "--lang")
    check_workers(args.workers)
    make = functools.partial(
        MosesEncoder,
        args.lang,
        lowercase=args.lowercase,
        normalize=args.normalize,
        tokenize=True,
        strict=True,
    )
    lines = decode_lines(sys.stdin.buffer, "standard input")
    print_lines(map_lines(make, lines, args.workers), at_once=args.workers == 1)


if __name__ == "__main__":
    run_main(main)
