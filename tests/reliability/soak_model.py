"""Train the demo's model, for a soak of translation.

    python tests/reliability/soak_model.py --updates 600 --work DIR

Leaves DIR/corpus, DIR/data and DIR/model; finished steps are not done again. The last line is
``model: tried N, survived N, lost N``, in updates.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fairseq_cgc.demo import write_corpus
from fairseq_cgc.demo.run import recipe
from fairseq_cgc.mt.prepare.preparation import PrepareOptions, prepare
from fairseq_cgc.mt.train.training import train
from fairseq_cgc.support.command_line import run_main


def main() -> None:
    """Parse the arguments, generate, prepare, train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=600, help="of the training (%(default)s)")
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    corpus = args.work / "corpus"
    write_corpus(corpus, train=12000, valid=500, test=2000, seed=1)
    splits = ("train", "valid", "test")
    raw = {split: {lang: corpus / f"{split}.{lang}" for lang in ("de", "en")} for split in splits}
    options = PrepareOptions("de", "en", normalize=False, lowercase=False, bpe_size=1000)
    data = prepare(raw, args.work / "data", options).data_dir
    train(data, args.work / "model", recipe(args.updates), name="training")
    print(f"model: tried {args.updates}, survived {args.updates}, lost 0")


if __name__ == "__main__":
    run_main(main)
