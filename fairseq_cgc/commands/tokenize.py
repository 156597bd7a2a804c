"""Tokenise text as Moses' tokenizer.perl does.

    fairseq-cgc tokenize --lang de < in > out
    fairseq-cgc tokenize --lang de --lowercase --normalize < in > out

The steps are, in this order: lower-case, normalise punctuation, tokenise. Special characters are
escaped (&apos;), and words are not split at dashes. Each line of the text is one sentence.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
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


def run(arguments: argparse.Namespace) -> None:
    """Tokenise standard input."""
    from fairseq_cgc.inference.text.lines import check_workers, decode_lines, map_lines
    from fairseq_cgc.inference.text.moses import MosesEncoder, check_language
    from fairseq_cgc.support.command_line import print_lines

    check_language(arguments.lang, "--lang")
    check_workers(arguments.workers)
    make = functools.partial(
        MosesEncoder,
        arguments.lang,
        lowercase=arguments.lowercase,
        normalize=arguments.normalize,
        tokenize=True,
        strict=True,
    )
    lines = decode_lines(sys.stdin.buffer, "standard input")
    print_lines(map_lines(make, lines, arguments.workers), at_once=arguments.workers == 1)
