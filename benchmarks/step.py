"""Whole training steps of the systems of Table 6, by fairseq's trainer.

A step is what ``fairseq-train`` does for a batch: forward, label-smoothed cross-entropy, backward,
Adam. Every system gets the same batches, in turn. The models are that of IWSLT'14, and the tiny one
of Multi30k with 10,000 types, where the loss is a large part of the step.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import Any

from fairseq.trainer import Trainer
from systems import MODELS, batches, build, spread
from timing import Settings, peak_memory, ratios, summary, timed
from tqdm import tqdm

from fairseq_cgc.support.tables import markdown

BASE = "lightconv"
#: Name in the table -> system and options.
SYSTEMS: dict[str, tuple[str, ...]] = {
    "transformer": ("transformer",),
    BASE: ("dynamic", "--encoder-conv-type", "lightweight"),
    "dynamic": ("dynamic",),
    "cgc": ("cgc",),
    "cgc, chunked loss": ("cgc", "--criterion", "label_smoothed_cross_entropy_chunked"),
    "cgc-logits": ("cgc-logits",),
    "cgc without gates": ("cgc", "--encoder-gate-target", "none"),
}
MAX_TOKENS = {"cpu": 2000, "cuda": 4000}
PASSES = {"cpu": 2, "cuda": 5}
#: On a GPU, where time is short: those of Table 6, and the other loss.
GPU_SYSTEMS = ("transformer", BASE, "dynamic", "cgc", "cgc, chunked loss")
PRECISIONS = {"cpu": ["float32", "bfloat16"], "cuda": ["float32", "bfloat16", "float16"]}
#: Measured beside the systems in half precision, for comparison.
BASE_FLOAT32 = f"{BASE}, float32"
_FLAGS = {"float32": [], "bfloat16": ["--bf16"], "float16": ["--fp16"]}


def shapes(settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows to measure."""
    tokens = 600 if settings.quick else MAX_TOKENS[settings.device]
    for model in MODELS[settings.device]:
        for precision in PRECISIONS[settings.device]:
            yield {"model": model, "precision": precision, "max_tokens": tokens}


def measure(shape: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Seconds of a step for each system, and on a GPU its peak of memory in MiB."""
    flags, model = _FLAGS[shape["precision"]], shape["model"]
    names = SYSTEMS if settings.device == "cpu" else GPU_SYSTEMS
    systems = {name: [*SYSTEMS[name], *flags] for name in names}
    if flags:
        systems[BASE_FLOAT32] = list(SYSTEMS[BASE])
    trainers = {name: _trainer(words, model, settings) for name, words in systems.items()}
    samples = batches(shape["max_tokens"], model)
    samples = spread(samples, 3 if settings.quick else 4)
    for trainer in trainers.values():
        _step(trainer, samples[len(samples) // 2], settings.device)  # warms up
    # Other work of the machine can only add to a step's time: the fastest pass has least of it.
    found = {name: [math.inf] * len(samples) for name in trainers}
    passes = 1 if settings.quick else PASSES[settings.device]
    rounds = list(enumerate(samples)) * passes
    for i, sample in tqdm(rounds, unit="batch", leave=False, desc="steps"):
        for name, trainer in trainers.items():
            found[name][i] = min(found[name][i], _step(trainer, sample, settings.device))
    row: dict[str, Any] = {
        "batches": len(samples),
        "passes": passes,
        "target_tokens": statistics.mean(sample["ntokens"] for sample in samples),
        "seconds": found,
    }
    if settings.device != "cpu":
        row["peak_mib"] = {
            name: _peak_mib(trainer, samples[-1], settings.device)
            for name, trainer in trainers.items()
        }
    return row


def _trainer(words: list[str], size: str, settings: Settings) -> Trainer:
    cfg, task, model = build(*words, model=size)
    cfg.common.cpu = settings.device == "cpu"
    cfg.checkpoint.no_save = True
    trainer = Trainer(cfg, task, model, task.build_criterion(cfg.criterion))
    trainer.begin_epoch(1)
    return trainer


def _step(trainer: Trainer, sample: dict[str, Any], device: str) -> float:
    """Seconds of a step; infinity if the gradients overflow and the step is skipped (--fp16)."""
    seconds, logged = timed(lambda: trainer.train_step([sample]), device)
    return math.inf if logged is None else seconds


def _peak_mib(trainer: Trainer, sample: dict[str, Any], device: str) -> float:
    # For its log, fairseq reads the peak after each step and resets it.
    trainer.cuda_env = None
    return peak_memory(lambda: trainer.train_step([sample]), device)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: a row for each system and precision."""
    lines = [
        "The milliseconds are those of a training step: the median (quartiles) over the batches, "
        "each measured by its fastest pass. The ratio is to the time of "
        f"{BASE} (fairseq's) on the same batch, in half precision to that of {BASE_FLOAT32}; it is "
        "a median (quartiles) too.",
    ]
    for row in rows:
        memory = "peak_mib" in row
        base = row["seconds"].get(BASE_FLOAT32, row["seconds"][BASE])
        lines += [
            "",
            f"### {row['model']}, {row['precision']}, at most {row['max_tokens']} tokens a batch "
            f"({row['target_tokens']:.0f} target tokens on average), {row['batches']} batches, "
            f"passes: {row['passes']}",
            "",
        ]
        table = []
        for name, seconds in row["seconds"].items():
            cells = [name, str(summary(seconds)), ratios(seconds, base)]
            cells += [f"{row['peak_mib'][name]:.0f}"] if memory else []
            table.append(cells)
        head = ("system", "milliseconds", "ratio", *(["MiB"] if memory else []))
        lines += markdown(head, table)
    return lines
