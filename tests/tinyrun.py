"""A small model, trained once for all tests that need a real one."""

from __future__ import annotations

import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fairseq_cgc.mt.fairseq_commands import fairseq_command
from fairseq_cgc.mt.prepare.preparation import PrepareOptions, prepare

NOUNS = {"Hund": "dog", "Mann": "man", "Ball": "ball", "Baum": "tree", "Stuhl": "chair"}
VERBS = {"sieht": "sees", "sucht": "seeks", "findet": "finds", "malt": "paints"}


@dataclass(frozen=True)
class TinyRun:
    """A trained model with everything that fairseq left behind."""

    data_dir: Path
    save_dir: Path
    log: Path
    raw: dict[str, Path]
    """Language -> raw test text; 37 lines, which no batch size of 8 divides."""


def make_pairs(number: int, seed: int) -> list[tuple[str, str]]:
    """German sentences of two nouns and a verb, and their word-for-word English."""
    draw = random.Random(seed)
    pairs = []
    for _ in range(number):
        subject, target = draw.choice(list(NOUNS)), draw.choice(list(NOUNS))
        verb = draw.choice(list(VERBS))
        pairs.append(
            (
                f"Der {subject} {verb} den {target}.",
                f"The {NOUNS[subject]} {VERBS[verb]} the {NOUNS[target]}.",
            )
        )
    return pairs


def write_pairs(folder: Path, name: str, pairs: list[tuple[str, str]]) -> dict[str, Path]:
    """``folder/NAME.de`` and ``folder/NAME.en``."""
    files = {lang: folder / f"{name}.{lang}" for lang in ("de", "en")}
    for side, path in enumerate(files.values()):
        path.write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8")
    return files


def train(folder: Path) -> TinyRun:
    """fairseq's LightConv on a toy corpus, trained until it translates more or less."""
    folder.mkdir()
    test = make_pairs(36, seed=3)
    # A character that the dictionary does not have, so that the reference has an <unk>.
    test.append(("Der Hund sieht den Baum.", "The dog sees the \u00e6."))
    raw = {
        "train": write_pairs(folder, "train", make_pairs(600, seed=1)),
        "valid": write_pairs(folder, "valid", make_pairs(20, seed=2)),
        "test": write_pairs(folder, "test", test),
    }
    options = PrepareOptions("de", "en", bpe_size=30)
    data_dir = prepare(raw, folder / "prepared", options).data_dir
    save_dir, log = folder / "checkpoints", folder / "train.log"
    sizes = [
        value
        for side in ("encoder", "decoder")
        for value in (
            f"--{side}-embed-dim", "32", f"--{side}-ffn-embed-dim", "32", f"--{side}-layers", "1",
            f"--{side}-attention-heads", "2", f"--{side}-kernel-size-list", "[3]",
            f"--{side}-conv-type", "lightweight",
        )
    ]  # fmt: skip
    command = fairseq_command("train", [
        data_dir, "--arch", "lightconv", *sizes, "--share-all-embeddings",
        "--max-source-positions", "64", "--max-target-positions", "64",
        "--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1",
        "--optimizer", "adam", "--lr", "0.01", "--dropout", "0", "--seed", "1",
        "--max-tokens", "800", "--max-epoch", "8", "--cpu", "--num-workers", "0",
        "--required-batch-size-multiple", "1",
        "--eval-bleu", "--eval-bleu-args", '{"beam": 1}', "--eval-bleu-remove-bpe",
        "--best-checkpoint-metric", "bleu", "--maximize-best-checkpoint-metric",
        "--keep-last-epochs", "4", "--keep-best-checkpoints", "2",
        "--save-dir", save_dir, "--log-format", "json", "--log-file", log, "--log-interval", "5",
    ])  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, check=False, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return TinyRun(data_dir, save_dir, log, raw["test"])
