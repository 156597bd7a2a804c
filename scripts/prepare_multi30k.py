#!/usr/bin/env python3
"""Prepare Multi30k (German-English image captions) for fairseq-train.

Lower case, normalised punctuation, Moses tokens, joint BPE, joined dictionary. The raw text
comes from the public repository of the data set, or from a folder (--from).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from fairseq_cgc.mt.fairseq_commands import run_main
from fairseq_cgc.mt.prepare.corpora import download
from fairseq_cgc.mt.prepare.preparation import PrepareOptions, prepare
from fairseq_cgc.support.errors import UserError

URL = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"
LANGS = ("de", "en")
#: fairseq's split -> name in the data set.
SPLITS = {
    "train": "train",
    "valid": "val",
    "test": "test_2016_flickr",
    "test1": "test_2017_flickr",
}
SHA256 = {
    "train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "test_2016_flickr.de.gz": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    "test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    "test_2017_flickr.de.gz": "a2c89666db00c495cd8513b9d708d5a3acc205d7de312ef2bf5fb7ebc1540aee",
    "test_2017_flickr.en.gz": "76a444ee25172e72695cddb13ae4a3bda59430617be88e0bb46b60504f054074",
}


def main() -> None:
    """Parse the arguments, get the raw text, prepare it, say where it is."""
    args = parse_args()
    for option in ("source_lang", "target_lang"):
        lang = getattr(args, option)
        if lang not in LANGS:
            raise UserError(
                f"--{option.replace('_', '-')} is {lang}, but must be {' or '.join(LANGS)}"
            )
    options = PrepareOptions(
        source_lang=args.source_lang,
        target_lang=args.target_lang,
        subwords=args.bpe.replace("-", "_"),
        bpe_size=args.bpe_size,
        joined_dictionary=not args.separate_dictionaries,
        max_tokens=args.max_tokens,
        workers=args.workers,
    )
    options.check()
    raw = {
        split: {lang: raw_file(name, lang, args.folder, args.out) for lang in LANGS}
        for split, name in SPLITS.items()
    }
    result = prepare(raw, args.out, options)
    pairs = ", ".join(f"{split} {count}" for split, count in result.pairs.items())
    sizes = ", ".join(f"{lang} {size}" for lang, size in result.dictionary_sizes.items())
    print(
        f"fairseq-train {result.data_dir} | pairs: {pairs}; dropped from train: {result.dropped}"
        f" | dictionary{' (joined)' if options.joined_dictionary else ''}: {sizes}"
    )


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder to work in; OUT/bin is for fairseq-train")
    parser.add_argument("--source-lang", default="de", help="language to translate from")
    parser.add_argument("--target-lang", default="en", help="language to translate into")
    parser.add_argument(
        "--from",
        dest="folder",
        type=Path,
        help="folder with train, val, test_2016_flickr and test_2017_flickr as NAME.LANG.gz or "
        "NAME.LANG, instead of downloading them",
    )
    parser.add_argument(
        "--bpe", choices=("subword-nmt", "sentencepiece"), default="subword-nmt",
        help="subword model, learnt on both languages together",
    )  # fmt: skip
    parser.add_argument(
        "--bpe-size", type=int, default=10000,
        help="merges (subword-nmt) or pieces (sentencepiece) to learn",
    )  # fmt: skip
    parser.add_argument(
        "--separate-dictionaries", action="store_true",
        help="one dictionary for each language instead of a joined one",
    )  # fmt: skip
    parser.add_argument(
        "--max-tokens", type=int, default=250,
        help="drop training pairs with more tokens on a side",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    return parser.parse_args()


def raw_file(name: str, lang: str, folder: Path | None, out: Path) -> Path:
    """A raw file of the data set: in ``folder``, else downloaded into ``out/download``."""
    archive = f"{name}.{lang}.gz"
    if folder is None:
        return download(f"{URL}/{archive}", out / "download" / archive, SHA256[archive])
    for path in (folder / archive, folder / f"{name}.{lang}"):
        if path.is_file():
            return path
    raise UserError(f"--from {folder} has neither {archive} nor {name}.{lang}")


if __name__ == "__main__":
    run_main(main)
