"""The whole work on a small scale: corpus, subwords, training, evaluation, pictures."""

from __future__ import annotations

import logging
from pathlib import Path

from fairseq_cgc.analysis.translation_reports import report_sentence
from fairseq_cgc.demo import write_corpus
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.inference.text.lines import read_lines
from fairseq_cgc.mt.evaluate.evaluation import evaluate, prepare_model
from fairseq_cgc.mt.evaluate.metrics import Scores
from fairseq_cgc.mt.prepare.preparation import PrepareOptions, prepare
from fairseq_cgc.mt.train.training import LOG, train
from fairseq_cgc.mt.train.training_log import draw_curves, read_log
from fairseq_cgc.support.environment import has_fast_bfloat16
from fairseq_cgc.support.figures import check_can_draw

logger = logging.getLogger(__name__)

RECIPE = [
    *("--arch", "lightconv_cgc_tiny", "--share-all-embeddings", "--dropout", "0"),
    *("--weight-dropout", "0", "--optimizer", "adam", "--adam-betas", "(0.9, 0.98)"),
    *("--lr", "0.005", "--lr-scheduler", "polynomial_decay", "--warmup-updates", "120"),
    *("--criterion", "label_smoothed_cross_entropy_chunked", "--label-smoothing", "0.1"),
    *("--max-tokens", "2048", "--clip-norm", "1.0", "--no-epoch-checkpoints", "--seed", "1"),
    *("--num-workers", "0", "--log-interval", "20", "--cpu"),
]


def recipe(updates: int) -> list[str]:
    """The options of ``fairseq-train``; the learning rate falls to 0 at the last update."""
    precision = ["--bf16"] if has_fast_bfloat16() else []
    length = ["--max-update", str(updates), "--total-num-update", str(updates)]
    return [*RECIPE, *length, *precision]


def run_demo(
    out: Path,
    *,
    train_pairs: int = 12000,
    valid_pairs: int = 500,
    test_pairs: int = 500,
    subwords: int = 1000,
    updates: int = 660,
) -> Scores:
    """Do all steps that are not finished yet.

    Leaves in ``out``: ``corpus/`` (raw text), ``data/`` (see
    :mod:`fairseq_cgc.mt.prepare.preparation`), ``model/`` (checkpoints and the training log),
    ``evaluation/`` (translations and scores), ``curve.png`` and ``gates.png``.

    Args:
        out: folder to work in; made if needed.
        train_pairs, valid_pairs, test_pairs: how many pairs are generated.
        subwords: BPE merges.
        updates: of the training.

    Returns:
        Scores of the test split at beam 6.

    Raises:
        UserError: if a step fails.
    """
    check_can_draw()
    corpus = out / "corpus"
    logger.info("1/5 corpus: German and English sentences from a grammar")
    write_corpus(corpus, train=train_pairs, valid=valid_pairs, test=test_pairs, seed=1)

    logger.info("2/5 tokens, subwords, fairseq data")
    splits = ("train", "valid", "test")
    raw = {split: {lang: corpus / f"{split}.{lang}" for lang in ("de", "en")} for split in splits}
    preparation = PrepareOptions("de", "en", normalize=False, lowercase=False, bpe_size=subwords)
    data = prepare(raw, out / "data", preparation).data_dir

    logger.info("3/5 training LightConv + CGC for %d updates", updates)
    save_dir = out / "model"
    train(data, save_dir, recipe(updates), name="training")

    logger.info("4/5 beam 6, scores")
    model = prepare_model(save_dir, None)
    search = SearchOptions(cpu=True)
    scores, evaluation = evaluate(
        model, data, options=search, output=out / "evaluation", command=["fairseq-cgc", "demo"]
    )

    logger.info("5/5 pictures")
    draw_curves([read_log(save_dir / LOG, "LightConv + CGC")], out / "curve.png")
    sources, references = (list(read_lines(raw["test"][lang])) for lang in ("de", "en"))
    longest = max(range(len(sources)), key=lambda i: len(sources[i]))
    report_sentence(model.path, sources[longest], out / "gates.png", data=data, options=search)

    translations = list(read_lines(evaluation / "hypotheses.txt"))
    for i in (0, 1, longest):
        print(
            f"\nsource      {sources[i]}\ntranslation {translations[i]}\n"
            f"reference   {references[i]}"
        )
    print(f"\n{scores.table()}\n\ncurve: {out / 'curve.png'}\ngates: {out / 'gates.png'}")
    return scores
