"""A training of a few seconds: the demo corpus, small, and the options of ``fairseq-train``."""

from __future__ import annotations

from pathlib import Path

import warm

from fairseq_cgc.demo import write_corpus
from fairseq_cgc.mt.prepare.preparation import PrepareOptions, prepare

MODEL = [
    *("--arch", "lightconv_cgc_tiny", "--share-all-embeddings", "--cpu", "--num-workers", "0"),
    *("--optimizer", "adam", "--lr", "0.001", "--clip-norm", "1", "--max-tokens", "800"),
    *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"),
    *("--seed", "1", "--log-format", "simple", "--log-interval", "1"),
]
#: About 27 updates of 3 epochs, a checkpoint at every fourth and at the end of each epoch.
SCHEDULE = [
    *("--dropout", "0.1", "--weight-dropout", "0.1", "--max-epoch", "3"),
    *("--save-interval-updates", "4", "--keep-interval-updates", "2"),
]


def prepare_demo(folder: Path) -> Path:
    """Binarised data with the description of how raw text became it."""
    corpus = folder / "corpus"
    write_corpus(corpus, train=150, valid=20, test=20, seed=1)
    raw = {
        split: {lang: corpus / f"{split}.{lang}" for lang in ("de", "en")}
        for split in ("train", "valid", "test")
    }
    options = PrepareOptions("de", "en", normalize=False, lowercase=False, bpe_size=100)
    return prepare(raw, folder / "data", options).data_dir


def train(data: Path, save_dir: Path, *options: str | Path) -> warm.Result:
    """``fairseq-train`` to its end; its output is ``train.log`` beside the save folder."""
    log = save_dir.with_name(f"{save_dir.name}.log")
    return warm.run(log, "train", data, "--save-dir", save_dir, *MODEL, *options)
