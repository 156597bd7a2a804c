"""Compare two systems' translations of one test set.

    fairseq-cgc compare REFERENCE SYSTEM_A SYSTEM_B
    fairseq-cgc compare REFERENCE SYSTEM_A SYSTEM_B --source SOURCE --html PAGE.html

All files are plain text or .gz, one sentence a line, detokenised (the hypotheses.txt of
fairseq-cgc evaluate). It prints BLEU and chrF2 with 95 % intervals, the p-value of a paired test
and the verdict; the page also shows the sentences that differ most side by side.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from fairseq_cgc.mt.evaluate.significance import SAMPLES, TESTS

    parser.add_argument("reference", type=Path, help="reference translations")
    parser.add_argument("system_a", type=Path, help="the baseline")
    parser.add_argument("system_b", type=Path, help="the system to compare with it")
    parser.add_argument("--source", type=Path, help="the source text, shown on the page")
    parser.add_argument(
        "--names", metavar="A,B", help="names of the systems (default: from the file names)"
    )
    parser.add_argument("--lowercase", action="store_true", help="ignore case")
    parser.add_argument(
        "--target-lang", default="", metavar="LANG",
        help="target language, such as de or zh_CN; BLEU has special tokenisers for Chinese, "
        "Japanese and Korean",
    )  # fmt: skip
    parser.add_argument(
        "--tokenized", action="store_true", help="do not warn that the text is tokenised"
    )
    parser.add_argument(
        "--test", default="bootstrap", metavar="NAME",
        help=f"{' or '.join(TESTS)} (%(default)s); the first is in effect one-sided, as in Moses "
        "and sacreBLEU, the second is two-sided",
    )  # fmt: skip
    parser.add_argument(
        "--samples", type=int, default=SAMPLES, metavar="N",
        help="samples or trials of the test (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--html", type=Path, metavar="PAGE", help="write an HTML page to this file")
    parser.add_argument(
        "--top", type=int, default=50, metavar="N", help="sentences on the page (%(default)s)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Compare and print the result."""
    from fairseq_cgc.mt.evaluate.comparison_files import CompareOptions, compare_files

    options = CompareOptions(
        source=arguments.source,
        names=arguments.names,
        lowercase=arguments.lowercase,
        target_lang=arguments.target_lang,
        tokenized=arguments.tokenized,
        test=arguments.test,
        samples=arguments.samples,
        html=arguments.html,
        top=arguments.top,
    )
    comparison = compare_files(arguments.reference, arguments.system_a, arguments.system_b, options)
    print(comparison.table())
    if arguments.html is not None:
        print(f"\npage: {arguments.html}")
