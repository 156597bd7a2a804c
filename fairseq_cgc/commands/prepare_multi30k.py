"""Prepare Multi30k (German-English image captions).

    fairseq-cgc prepare-multi30k OUT                       # downloads the text
    fairseq-cgc prepare-multi30k OUT --from FOLDER

Lower case, normalised punctuation, Moses tokens, joint BPE, joined dictionary. OUT/bin is for
fairseq-train.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("out", type=Path, help="folder to work in; OUT/bin is for fairseq-train")
    parser.add_argument("--source-lang", default="de", help="translate from (%(default)s)")
    parser.add_argument("--target-lang", default="en", help="translate into (%(default)s)")
    parser.add_argument(
        "--from",
        dest="folder",
        type=Path,
        help="folder with train, val, test_2016_flickr and test_2017_flickr as NAME.LANG.gz or "
        "NAME.LANG, instead of downloading them",
    )
    parser.add_argument(
        "--bpe", choices=("subword-nmt", "sentencepiece"), default="subword-nmt",
        help="subword model, learnt on both languages together (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--bpe-size", type=int, default=10000,
        help="merges (subword-nmt) or pieces (sentencepiece) to learn (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--separate-dictionaries", action="store_true",
        help="one dictionary for each language instead of a joined one",
    )  # fmt: skip
    parser.add_argument(
        "--max-tokens", type=int, default=250,
        help="drop training pairs with more tokens on a side (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Get the raw text, prepare it, and say where it is."""
    from fairseq_cgc.mt.prepare.preparation import PrepareOptions, prepare

    for option in ("source_lang", "target_lang"):
        lang = getattr(arguments, option)
        if lang not in LANGS:
            raise UserError(
                f"--{option.replace('_', '-')} is {lang}, but must be {' or '.join(LANGS)}"
            )
    options = PrepareOptions(
        source_lang=arguments.source_lang,
        target_lang=arguments.target_lang,
        subwords=arguments.bpe.replace("-", "_"),
        bpe_size=arguments.bpe_size,
        joined_dictionary=not arguments.separate_dictionaries,
        max_tokens=arguments.max_tokens,
        workers=arguments.workers,
    )
    options.check()
    raw = {
        split: {lang: raw_file(name, lang, arguments.folder, arguments.out) for lang in LANGS}
        for split, name in SPLITS.items()
    }
    result = prepare(raw, arguments.out, options)
    pairs = ", ".join(f"{split} {count}" for split, count in result.pairs.items())
    sizes = ", ".join(f"{lang} {size}" for lang, size in result.dictionary_sizes.items())
    print(
        f"fairseq-train {result.data_dir} | pairs: {pairs}; dropped from train: {result.dropped}"
        f" | dictionary{' (joined)' if options.joined_dictionary else ''}: {sizes}"
    )


def raw_file(name: str, lang: str, folder: Path | None, out: Path) -> Path:
    """A raw file of the data set: in ``folder``, else downloaded into ``out/download``."""
    from fairseq_cgc.mt.prepare.corpora import download

    archive = f"{name}.{lang}.gz"
    if folder is None:
        return download(f"{URL}/{archive}", out / "download" / archive, SHA256[archive])
    for path in (folder / archive, folder / f"{name}.{lang}"):
        if path.is_file():
            return path
    raise UserError(f"--from {folder} has neither {archive} nor {name}.{lang}")
