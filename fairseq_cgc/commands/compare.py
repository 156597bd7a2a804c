"""Compare two systems' translations of one test set.

    fairseq-cgc compare REFERENCE SYSTEM_A SYSTEM_B
    fairseq-cgc compare REFERENCE SYSTEM_A SYSTEM_B --source SOURCE --html PAGE.html

All files are plain text or .gz, one sentence on each line, detokenised (the hypotheses.txt of
fairseq-cgc evaluate). The command prints BLEU and chrF2 with 95 % intervals, the p-value of a
paired test and the verdict; the page also shows the sentences that differ most side by side.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from fairseq_cgc.mt.evaluate.comparison_files import CompareOptions
    from fairseq_cgc.support.options import add_options

    parser.add_argument("reference", type=Path, help="reference translations")
    parser.add_argument("system_a", type=Path, help="the baseline")
    parser.add_argument("system_b", type=Path, help="the system to compare with it")
    add_options(parser, CompareOptions)


def run(arguments: argparse.Namespace) -> None:
    """Compare and print the result."""
    from fairseq_cgc.mt.evaluate.comparison_files import CompareOptions, compare_files
    from fairseq_cgc.support.options import given_values

    options = CompareOptions(**given_values(arguments, CompareOptions))
    comparison = compare_files(arguments.reference, arguments.system_a, arguments.system_b, options)
    print(comparison.table())
    if options.html is not None:
        print(f"\npage: {options.html}")
