"""Beam search at beam 6 with this package's decoder and with fairseq's, the same weights.

An untrained model of Table 6's size on sentences of IWSLT'14's lengths: it never ends a sentence
by itself in a sensible place, so all hypotheses of a batch get the mean length of its references.
With ``--checkpoint`` a trained model translates its test set too, and ends as it likes.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from fairseq import checkpoint_utils, utils
from fairseq.models.lightconv import LightConvDecoder, LightConvEncoder
from settings import Settings
from systems import batches, build
from timing import summary
from tqdm import tqdm

from fairseq_cgc.models import lightconv_cgc

BEAM = 6
BASE, OURS = "fairseq's", "ours"
_DTYPES = {"float32": torch.float32, "float16": torch.float16}


class _FairseqsEncoder(lightconv_cgc.LightConvCGCEncoder):
    """The gated encoder, its output reordered as fairseq does."""

    reorder_encoder_out = LightConvEncoder.reorder_encoder_out


def shapes(settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows to measure."""
    sizes = [1000] if settings.quick else [1000, 4000]
    for precision in ["float32", *(["float16"] if settings.device != "cpu" else [])]:
        for size in sizes:
            yield {"trained": False, "max_tokens": size, "precision": precision}
        if settings.checkpoint is not None:
            yield {"trained": True, "max_tokens": 12000, "precision": precision}


def measure(shape: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Seconds of each batch with both decoders, and how far their hypotheses agree."""
    make = _trained if shape["trained"] else _untrained
    with _fairseqs_decoder():
        _, _, theirs = make(settings)
    theirs.encoder.__class__ = _FairseqsEncoder
    cfg, task, ours = make(settings)
    models = {BASE: theirs, OURS: ours}
    for model in models.values():
        model.prepare_for_inference_(cfg)
        model.eval()  # fairseq's gives nothing back
        model.to(settings.device, _DTYPES[shape["precision"]])
    if shape["trained"]:
        samples = _test_set(task, shape["max_tokens"])
    else:
        samples = batches(shape["max_tokens"], "cpu")
        samples = samples[:: max(1, len(samples) // (2 if settings.quick else 4))]
    samples = [utils.move_to_cuda(s) if settings.device != "cpu" else s for s in samples]
    found: dict[str, list[float]] = {name: [] for name in models}
    alike, farthest = 0, 0.0
    # On a GPU something is compiled for some lengths and not for others.
    warm_up = samples[:1] if settings.device == "cpu" else samples
    rounds = [*warm_up, *samples]
    for i, sample in enumerate(tqdm(rounds, leave=False, desc="batches")):
        outputs = {}
        for name, model in models.items():
            start = time.perf_counter()
            outputs[name] = _generate(task, model, sample, shape["trained"])
            if settings.device != "cpu":
                torch.cuda.synchronize()
            if i >= len(warm_up):
                found[name].append(time.perf_counter() - start)
        if i >= len(warm_up):
            pairs = [list(zip(*both, strict=True)) for both in zip(*outputs.values(), strict=True)]
            for hypotheses in pairs:
                if all(torch.equal(a["tokens"], b["tokens"]) for a, b in hypotheses):
                    alike += 1
                    differences = [abs(float(a["score"] - b["score"])) for a, b in hypotheses]
                    farthest = max(farthest, *differences)
    return {
        "seconds": found,
        "sentences": sum(sample["nsentences"] for sample in samples),
        "alike": alike,
        "farthest": farthest,
    }


@contextmanager
def _fairseqs_decoder() -> Iterator[None]:
    """Models built inside have fairseq's decoder."""
    with patch.object(lightconv_cgc, "LightConvCGCDecoder", LightConvDecoder):
        yield


def _untrained(_: Settings) -> tuple[Any, Any, Any]:
    return build("cgc")


def _trained(settings: Settings) -> tuple[Any, Any, Any]:
    (model,), cfg, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(settings.checkpoint)], arg_overrides={"data": str(settings.data)}
    )
    return cfg, task, model


def _test_set(task: Any, max_tokens: int) -> list[dict[str, Any]]:
    task.load_dataset("test")
    iterator = task.get_batch_iterator(
        task.dataset("test"), max_tokens=max_tokens, required_batch_size_multiple=8
    )
    return list(iterator.next_epoch_itr(shuffle=False))


def _generate(task: Any, model: Any, sample: dict[str, Any], is_trained: bool) -> list[Any]:
    search = Namespace(beam=BEAM)
    if not is_trained:
        length = round(sample["ntokens"] / sample["nsentences"])
        search = Namespace(beam=BEAM, max_len_a=0, max_len_b=length, min_len=length)
    return task.inference_step(task.build_generator([model], search), [model], sample)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: a row for each model and batch size."""
    lines = [
        f"Beam {BEAM}, gated encoder. Seconds for all sentences. Speed-up: {BASE} over {OURS} on "
        "the same batch, median (quartiles). Alike: sentences of which all hypotheses are the "
        "same, token for token; difference: the largest of their scores.",
        "",
        f"| model | precision | tokens a batch | sentences | {BASE} | {OURS} | sentences/s "
        "| speed-up | alike | difference |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        theirs, ours = row["seconds"][BASE], row["seconds"][OURS]
        ratio = summary([a / b for a, b in zip(theirs, ours, strict=True)])
        cells = [
            "trained" if row["trained"] else "untrained, full size",
            row["precision"],
            str(row["max_tokens"]),
            str(row["sentences"]),
            f"{sum(theirs):.1f}",
            f"{sum(ours):.1f}",
            f"{row['sentences'] / sum(ours):.0f}",
            f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
            str(row["alike"]),
            f"{row['farthest']:.0e}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
