"""Prepare IWSLT'14 German-English (talks).

    fairseq-cgc prepare-iwslt14 OUT                        # downloads the archive
    fairseq-cgc prepare-iwslt14 OUT --from de-en.tgz

As fairseq's prepare-iwslt14.sh: Moses tokens, cleaned and lower-cased, every 23rd pair for
validation, joint BPE, separate dictionaries. OUT/bin is for fairseq-train. Counts are printed
beside those of the public archive. An interrupted run continues where it stopped. Other language
pairs and years of the campaign are taken with --from.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from fairseq_cgc.support.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from fairseq_cgc.mt.prepare.iwslt_files import TEST_SETS_2014

    parser.add_argument("out", type=Path, help="folder to work in; OUT/bin is for fairseq-train")
    parser.add_argument(
        "--from", dest="origin", type=Path, metavar="FILE_OR_FOLDER",
        help="the campaign's archive (.tgz or .tar) or the folder with its files, instead of "
        "downloading the archive of 2014",
    )  # fmt: skip
    parser.add_argument("--source-lang", default="de", help="translate from (%(default)s)")
    parser.add_argument("--target-lang", default="en", help="translate into (%(default)s)")
    parser.add_argument("--year", type=int, default=2014, help="of the campaign (%(default)s)")
    parser.add_argument(
        "--test-sets", nargs="+", default=(), metavar="SET",
        help="sets that make up the test set, in order, such as tst2010 or TED.tst2010 "
        f"(for 2014: {' '.join(TEST_SETS_2014)})",
    )  # fmt: skip
    parser.add_argument(
        "--bpe", choices=("subword-nmt", "sentencepiece"), default="subword-nmt",
        help="subword model, learnt on both languages together (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--bpe-size", type=int, default=10000,
        help="merges (subword-nmt) or pieces (sentencepiece) to learn (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--joined-dictionary", action="store_true",
        help="one dictionary for both languages instead of separate ones",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Prepare, and print where the data is and what it counts."""
    from fairseq_cgc.inference.text.moses import check_language
    from fairseq_cgc.mt.prepare.iwslt import (
        compare_counts,
        counts_table,
        iwslt_options,
        prepare_iwslt,
    )
    from fairseq_cgc.mt.prepare.iwslt_files import Campaign

    for option, lang in (
        ("--source-lang", arguments.source_lang),
        ("--target-lang", arguments.target_lang),
    ):
        if not re.fullmatch("[a-z]{2,3}", lang):  # the files are named after it
            raise UserError(
                f"{option} is {lang}, but must be a two- or three-letter code such as de"
            )
        check_language(lang, option)
    campaign = Campaign(
        arguments.source_lang, arguments.target_lang, arguments.year, tuple(arguments.test_sets)
    )
    options = iwslt_options(
        campaign,
        subwords=arguments.bpe.replace("-", "_"),
        bpe_size=arguments.bpe_size,
        joined_dictionary=arguments.joined_dictionary,
        workers=arguments.workers,
    )
    prepared, files = prepare_iwslt(campaign, arguments.origin, arguments.out, options)
    counts = compare_counts(campaign, files, options, prepared, arguments.out / "bpe")
    print(f"fairseq-train {prepared.data_dir} | dropped from train: {prepared.dropped}")
    print(counts_table(counts))
