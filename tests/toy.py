"""A toy corpus and fairseq's commands on it, for the tests that need the whole road."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZES = [
    *("--encoder-embed-dim", "32", "--encoder-ffn-embed-dim", "32", "--encoder-layers", "2"),
    *("--decoder-ffn-embed-dim", "32", "--decoder-layers", "2", "--dropout", "0.1"),
    *("--encoder-kernel-size-list", "[3,7]", "--decoder-kernel-size-list", "[3,7]"),
]
OPTIMIZER = [
    *("--optimizer", "adam", "--lr", "0.01", "--max-tokens", "400", "--cpu", "--seed", "3"),
    *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"),
    *("--no-progress-bar", "--log-interval", "5"),
]


def write_corpus(folder: Path, train: int = 300, held_out: int = 40) -> Path:
    """Sentences of numbered words; the target is the source reversed."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = random.Random(5)
    for split, number in (("train", train), ("valid", held_out), ("test", held_out)):
        lines = [
            [f"w{generator.randrange(20)}" for _ in range(generator.randrange(1, 15))]
            for _ in range(number)
        ]
        for lang, step in (("de", 1), ("en", -1)):
            text = "".join(" ".join(line[::step]) + "\n" for line in lines)
            (folder / f"{split}.{lang}").write_text(text, encoding="utf-8")
    return folder


def fairseq(name: str, *arguments: str | Path, **options: object) -> subprocess.CompletedProcess:
    """Run ``fairseq-NAME`` with the plugin, as a user would, from the checkout's folder."""
    return subprocess.run(
        fairseq_command(name, *arguments),
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **options},
        capture_output=True,
        text=True,
        timeout=300,
    )


def fairseq_command(name: str, *arguments: str | Path) -> list[str]:
    user_dir = [] if name == "hydra_train" else ["--user-dir", "fairseq_cgc"]
    return [sys.executable, "-m", f"fairseq_cli.{name}", *map(str, arguments), *user_dir]


def succeed(result: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result


def binarise(text: Path, out: Path) -> Path:
    """The corpus of :func:`write_corpus` as fairseq reads it."""
    prefixes = [f"--{split}pref={text / split}" for split in ("train", "valid", "test")]
    languages = ["-s", "de", "-t", "en", "--joined-dictionary"]
    succeed(fairseq("preprocess", *languages, *prefixes, "--destdir", out))
    return out


def train(data: Path, save_dir: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Train the toy model; a later argument overrides an earlier one."""
    arch = ["--arch", "lightconv_cgc_iwslt_de_en"]
    return fairseq("train", data, *arch, *SIZES, *OPTIMIZER, "--save-dir", save_dir, *arguments)
