"""Prepare IWSLT'14 German-English (talks).

    fairseq-cgc prepare-iwslt14 OUT                        # downloads the archive
    fairseq-cgc prepare-iwslt14 OUT --from de-en.tgz

As fairseq's prepare-iwslt14.sh: Moses tokens, cleaned and lower-cased, every 23rd pair for
validation, joint BPE, separate dictionaries. OUT/bin is for fairseq-train. The counts are printed
beside those of the public archive. An interrupted run continues where it stopped. With --from,
other language pairs and years of the campaign can be prepared.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from fairseq_cgc.mt.prepare import options
    from fairseq_cgc.mt.prepare.iwslt_files import TEST_SETS_2014

    of_the_recipe = ("tokenizer", "normalize", "lowercase", "max_tokens", "max_ratio")
    options.add_arguments(parser, leave_out=of_the_recipe, dictionary="separate")
    parser.add_argument(
        "--from", dest="origin", type=Path, metavar="FILE_OR_FOLDER",
        help="the campaign's archive (.tgz or .tar) or the folder with its files, instead of "
        "downloading the archive of 2014",
    )  # fmt: skip
    parser.add_argument("--year", type=int, default=2014, help="year of the campaign (%(default)s)")
    parser.add_argument(
        "--test-sets", nargs="+", default=(), metavar="SET",
        help="sets that make up the test set, in order, such as tst2010 or TED.tst2010 "
        f"(for 2014: {' '.join(TEST_SETS_2014)})",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Prepare, and print where the data is and its counts."""
    from fairseq_cgc.mt.prepare.iwslt import (
        compare_counts,
        counts_table,
        iwslt_options,
        prepare_iwslt,
    )
    from fairseq_cgc.mt.prepare.iwslt_files import Campaign
    from fairseq_cgc.mt.prepare.options import given_options

    given = given_options(arguments)
    langs = given.pop("source_lang"), given.pop("target_lang")
    campaign = Campaign(*langs, arguments.year, tuple(arguments.test_sets))
    options = iwslt_options(campaign, **given)
    prepared, files = prepare_iwslt(campaign, arguments.origin, arguments.out, options)
    counts = compare_counts(campaign, files, options, prepared, arguments.out / "bpe")
    print(f"fairseq-train {prepared.data_dir} | dropped from train: {prepared.dropped}")
    print(counts_table(counts))
