"""Prepare Multi30k (German-English image captions).

    fairseq-cgc prepare-multi30k OUT                       # downloads the text
    fairseq-cgc prepare-multi30k OUT --from FOLDER

Lower case, normalised punctuation, Moses tokens, joint BPE, joined dictionary. OUT/bin is for
fairseq-train.
"""

from __future__ import annotations

import argparse
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
    from fairseq_cgc.mt.prepare import options

    options.add_arguments(parser, leave_out=("tokenizer", "normalize", "lowercase", "max_ratio"))
    parser.add_argument(
        "--from", dest="folder", type=Path,
        help="folder with train, val, test_2016_flickr and test_2017_flickr as NAME.LANG.gz or "
        "NAME.LANG, instead of downloading them",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Get the raw text, prepare it, and say where it is."""
    from fairseq_cgc.mt.prepare.options import PrepareOptions, given_options
    from fairseq_cgc.mt.prepare.preparation import listed, prepare
    from fairseq_cgc.support.options import demand

    for field in ("source_lang", "target_lang"):
        demand(arguments, field, getattr(arguments, field) in LANGS, " or ".join(LANGS))
    options = PrepareOptions(**given_options(arguments))
    options.check()
    raw = {
        split: {lang: raw_file(name, lang, arguments.folder, arguments.out) for lang in LANGS}
        for split, name in SPLITS.items()
    }
    prepared = prepare(raw, arguments.out, options)
    print(
        f"fairseq-train {prepared.data_dir} | pairs: {listed(prepared.pairs)}; dropped from train: "
        f"{prepared.dropped} | dictionary{' (joined)' if options.joined_dictionary else ''}: "
        f"{listed(prepared.dictionary_sizes)}"
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
