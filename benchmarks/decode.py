"""Beam search at beam 6: fairseq's generator, this package's own search, and CTranslate2.

The models are untrained, of Table 6's size and tiny, and the sentences have IWSLT'14's lengths. An
untrained model does not know where to end, so all translations of a batch get the mean length of
its references. With ``--checkpoint``, a trained model also translates its test set, with free
lengths, and is scored on it. CTranslate2 has no LightConv: it translates with fairseq's Transformer
of the same size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from fairseq import utils
from searches import BEAM, TRAINED, contenders, has_ctranslate2
from systems import MODELS, batches, spread
from timing import Settings, peak_memory, ratios, timed
from tqdm import tqdm

from fairseq_cgc.inference.precision import PRECISIONS
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.tables import markdown

SENTENCES, TOKENS = "sentences", "tokens"
#: Device -> size and unit of a batch -> number of batches, spread over all lengths.
BATCHES = {
    "cpu": {
        (1, SENTENCES): 12,
        (8, SENTENCES): 4,
        (64, SENTENCES): 2,
        (1000, TOKENS): 4,
        (4000, TOKENS): 4,
    },
    "cuda": {(64, SENTENCES): 2, (4000, TOKENS): 2},
}
QUICK = {"cpu": {(1, SENTENCES): 2, (300, TOKENS): 2}, "cuda": {(64, SENTENCES): 1}}
#: The size of the batches in which a trained model is scored.
SCORED = (4000, TOKENS)


def shapes(settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows to measure."""
    peer = version("ctranslate2") if has_ctranslate2() and settings.device == "cpu" else None
    trained = [] if settings.checkpoint is None else [TRAINED]
    untrained = ["tiny"] if settings.quick else MODELS[settings.device]
    for model in [*untrained, *trained]:
        for size, unit in (QUICK if settings.quick else BATCHES)[settings.device]:
            yield {"model": model, "size": size, "unit": unit, "ctranslate2": peer}


def measure(shape: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Seconds of each contender for each batch, its memory, and how many results agree."""
    batch = (shape["size"], shape["unit"])
    count = (QUICK if settings.quick else BATCHES)[settings.device][batch]
    task, run = contenders(shape["model"], settings)
    if shape["model"] == TRAINED:
        samples = _test_set(task, *batch)
    else:
        samples = batches(shape["size"], shape["model"], unit=shape["unit"])
    samples = spread(samples, count)
    if settings.device != "cpu":
        samples = [utils.move_to_cuda(sample) for sample in samples]

    def search(name: str, sample: dict[str, Any]) -> list[list[int]]:
        length = round(sample["ntokens"] / sample["nsentences"])
        return run[name].search(sample, None if shape["model"] == TRAINED else length)

    # On a GPU, some lengths need a compilation of their own.
    for sample in samples if settings.device != "cpu" else ():
        for name in run:
            search(name, sample)
    largest = max(samples, key=lambda sample: sample["net_input"]["src_tokens"].numel())
    peaks = {  # which warms up too
        name: peak_memory(partial(search, name, largest), settings.device, fork=False)
        for name in run
    }
    found: dict[str, list[float]] = {name: [] for name in run}
    alike = dict.fromkeys(run, 0)
    for sample in tqdm(samples, leave=False, desc="batches"):
        base: list[list[int]] | None = None
        for name in run:
            seconds, best = timed(partial(search, name, sample), settings.device)
            found[name].append(seconds)
            base = base or best
            alike[name] += sum(a == b for a, b in zip(best, base, strict=True))
    row: dict[str, Any] = {
        "seconds": found,
        "sentences": sum(sample["nsentences"] for sample in samples),
        "alike": alike,
        "weights_mib": {name: contender.weights_mib for name, contender in run.items()},
        "peak_mib": peaks,
    }
    if shape["model"] == TRAINED and batch == SCORED:
        row["quality"] = _quality(settings)
    return row


def _test_set(task: Any, size: int, unit: str) -> list[dict[str, Any]]:
    task.load_dataset("test")
    limit = {"max_sentences" if unit == SENTENCES else "max_tokens": size}
    iterator = task.get_batch_iterator(task.dataset("test"), **limit)
    return list(iterator.next_epoch_itr(shuffle=False))


def _quality(settings: Settings) -> dict[str, Any] | None:
    """Scores of the whole test set in each precision; None if it has no references."""
    from fairseq_cgc.mt.evaluate.evaluation import HYPOTHESES, evaluate, prepare_model

    assert settings.checkpoint is not None and settings.data is not None
    found: dict[str, Any] = {}
    lines: dict[str, list[str]] = {}
    for precision in PRECISIONS if settings.device == "cpu" else PRECISIONS[:2]:
        options = SearchOptions(
            beam=BEAM, max_tokens=SCORED[0], precision=precision, cpu=settings.device == "cpu"
        )
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            try:
                scores, _ = evaluate(
                    prepare_model(settings.checkpoint, None),
                    settings.data,
                    options=options,
                    output=Path(folder),
                )
            except UserError as error:
                print(f"no BLEU and chrF: {error}")
                return None
            lines[precision] = (Path(folder) / HYPOTHESES).read_text(encoding="utf-8").split("\n")
        base = lines[PRECISIONS[0]]
        same = sum(a == b for a, b in zip(lines[precision][:-1], base[:-1], strict=True))
        found[precision] = {
            "bleu": scores["sacrebleu"].score,
            "chrf": scores["chrf"].score,
            "signature": str(scores["sacrebleu"]),
            "same": same / (len(base) - 1),
        }
    return found


_HEAD = ("a batch", "search", "sentences/s", "speed-up", "alike", "MiB, weights", "MiB, search")


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: a table for each model, and the scores of a trained one."""
    base = next(iter(rows[0]["seconds"]))
    lines = [
        f"The beam is {BEAM}; PyTorch and CTranslate2 have {torch.get_num_threads()} threads each. "
        "The lengths of untrained models' translations are forced. The speed-up is over "
        f"{base} on the same batch, as median (quartiles). Alike are the sentences whose best "
        f"hypothesis is that of {base}, token for token. The last columns are the memory of the "
        "weights, and the peak that a search adds for the batch with the most tokens.",
    ]
    if not any(row["ctranslate2"] for row in rows):
        lines += ["", "Without CTranslate2, which is not installed or, on a GPU, not compared."]
    for model in dict.fromkeys(row["model"] for row in rows):
        chosen = [row for row in rows if row["model"] == model]
        lines += ["", f"### {model}", ""]
        cells = [_cells(row, name, base) for row in chosen for name in row["seconds"]]
        lines += markdown(_HEAD, cells, "llrrrrr")
        for quality in filter(None, (row.get("quality") for row in chosen)):
            lines += ["", *_quality_table(quality)]
    return lines


def _cells(row: dict[str, Any], name: str, base: str) -> list[str]:
    seconds, count = row["seconds"], row["sentences"]
    return [
        f"{row['size']:,} {row['unit'].removesuffix('s') if row['size'] == 1 else row['unit']}",
        name,
        f"{count / sum(seconds[name]):.1f}",
        ratios(seconds[base], seconds[name]),
        "" if name.startswith("CTranslate2") else f"{row['alike'][name]} of {count}",
        f"{row['weights_mib'][name]:.0f}",
        f"{row['peak_mib'][name]:.0f}",
    ]


def _quality_table(quality: dict[str, Any]) -> list[str]:
    base = quality[PRECISIONS[0]]
    lines = [
        "The whole test set, translated by this package's own search: sacreBLEU "
        f"(`{base['signature']}`), chrF2, and their differences from {PRECISIONS[0]}.",
        "",
    ]
    head = ("precision", "BLEU", "difference", "chrF2", "difference", "same translations")
    rows = []
    for precision, found in quality.items():
        cells = [precision]
        for metric in ("bleu", "chrf"):
            cells += [f"{found[metric]:.2f}", f"{found[metric] - base[metric]:+.2f}"]
        cells.append(f"{found['same']:.1%}")
        rows.append(cells)
    return [*lines, *markdown(head, rows)]
