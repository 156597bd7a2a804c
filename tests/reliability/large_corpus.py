"""Prepare a large corpus, measure time and memory of each step, and see that no pair is lost.

    python tests/reliability/large_corpus.py --pairs 1000000 --work DIR --report DIR/report.json

The corpus is random: words of syllables whose frequencies follow Zipf's law, sentences as long as
those of news, and now and then an empty side, a side that is too long and a copy of another pair.
``fairseq-cgc prepare`` holds out validation and test pairs, learns BPE and binarises. Memory is the
proportional set size of the command and its processes together. The last line is
``large corpus: tried N, survived N, lost N``, in pairs. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from fairseq.data.indexed_dataset import MMapIndexedDataset
from tqdm import tqdm

from fairseq_cgc.support.command_line import run_main
from fairseq_cgc.support.environment import describe_machine, versions
from fairseq_cgc.support.files import new_file, write_json
from fairseq_cgc.support.settings_record import read_counts

REPOSITORY = Path(__file__).resolve().parents[2]
LANGS = ("de", "en")
STEPS = ("orig", "text", "bpe", "bin")
_AT_ONCE = 20_000  # pairs
_EMPTY_EVERY, _LONG_EVERY, _COPY_EVERY = 997, 1009, 499
_ONSETS = ("", *"bdfghklmnprstvwz", "sch", "st", "tr", "gr", "fl", "kn", "pf")
_RHYMES = (
    "a",
    "e",
    "i",
    "o",
    "u",
    "ä",
    "ö",
    "ü",
    "ei",
    "au",
    "en",
    "er",
    "el",
    "ung",
    "ich",
    "and",
)


def make_words(number: int, draw: np.random.Generator) -> np.ndarray:
    """Words of one to five syllables, the short ones first, as the frequent ones are."""
    syllables = np.array([onset + rhyme for onset in _ONSETS for rhyme in _RHYMES])
    lengths = np.sort(draw.integers(1, 6, number))
    chosen = syllables[draw.integers(0, len(syllables), (number, 5))]
    return np.array(
        ["".join(row[:n]) for row, n in zip(chosen, lengths, strict=True)], dtype=object
    )


def write_corpus(prefix: Path, pairs: int, types: int, seed: int) -> None:
    """Write ``PREFIX.de`` and ``PREFIX.en``."""
    draw = np.random.default_rng(seed)
    shares = 1 / (np.arange(types) + 2.7)
    limits = np.cumsum(shares / shares.sum())
    for lang in LANGS:
        words = make_words(types, draw)
        with (
            new_file(Path(f"{prefix}.{lang}")) as partial,
            partial.open("w", encoding="utf-8") as stream,
            tqdm(total=pairs, desc=f"generate {lang}", unit="line") as bar,
        ):
            for start in range(0, pairs, _AT_ONCE):
                number = min(_AT_ONCE, pairs - start)
                lengths = np.exp(draw.normal(3.0, 0.5, number)).astype(int).clip(1, 120)
                found = words[
                    np.searchsorted(limits, draw.random(lengths.sum())).clip(0, types - 1)
                ]
                ends = np.cumsum(lengths)
                for index, (end, length) in enumerate(zip(ends, lengths, strict=True), start):
                    line = " ".join(found[end - length : end]).capitalize() + "."
                    if index % _COPY_EVERY == 1:
                        line = f"Copied {lang}."
                    elif index % _LONG_EVERY == 2:
                        line *= 300
                    elif index % _EMPTY_EVERY == 3 and lang == LANGS[0]:
                        line = ""
                    stream.write(line + "\n")
                bar.update(number)


def memory_of(process: int) -> float:
    """MiB of a process and its descendants; pages that several share count once."""
    total, pending = 0, [process]
    while pending:
        folder = Path("/proc", str(pending.pop()))
        try:
            rollup = (folder / "smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in rollup.splitlines() if "Pss:" in line)
            for children in (folder / "task").glob("*/children"):
                pending += map(int, children.read_text().split())
        except (OSError, StopIteration):  # it has ended
            continue
    return total / 1024


class Watch(threading.Thread):
    """Notes when each step is done, and the most memory during it."""

    def __init__(self, process: int, out: Path) -> None:
        super().__init__(daemon=True)
        self.process, self.out, self.ended = process, out, threading.Event()
        self.seconds: dict[str, float] = {}
        self.mebibytes: dict[str, float] = {}

    def run(self) -> None:
        """Look twice a second until the process has ended."""
        started = time.monotonic()
        for step in STEPS:
            peak = 0.0
            while not (self.out / step).exists() and not self.ended.wait(0.5):
                peak = max(peak, memory_of(self.process))
            now = time.monotonic()
            self.seconds[step], self.mebibytes[step] = round(now - started, 1), round(peak)
            started = now


def prepare(args: argparse.Namespace, prefix: Path, out: Path) -> dict[str, Any]:
    """Run ``fairseq-cgc prepare``; seconds and MiB of each step."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "fairseq_cgc", "prepare", out, "--train", prefix]
    command += ["--source-lang", LANGS[0], "--target-lang", LANGS[1]]
    command += ["--valid", args.held_out, "--test", args.held_out]
    command += ["--bpe-size", args.bpe_size, "--workers", args.workers]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    started = time.monotonic()
    with subprocess.Popen(list(map(str, command)), env=environment, stdout=2) as process:
        watch = Watch(process.pid, out)
        watch.start()
        status = process.wait()
        watch.ended.set()
        watch.join()
    if status:
        sys.exit(f"fairseq-cgc prepare failed with status {status}")
    minutes = round((time.monotonic() - started) / 60, 2)
    return {"minutes": minutes, "seconds": watch.seconds, "mebibytes": watch.mebibytes}


def accounted_for(out: Path) -> int:
    """The pairs that are in the data, or were dropped for a reason that was counted."""
    orig, text = read_counts(out / "orig"), read_counts(out / "text")
    found = orig["empty"] + orig["copies"] + text["dropped"]
    for split in ("train", "valid", "test"):
        sides = [MMapIndexedDataset(str(out / f"bin/{split}.de-en.{lang}")) for lang in LANGS]
        lengths = {len(side) for side in sides}
        found += lengths.pop() if len(lengths) == 1 else 0
    return found


def main() -> None:
    """Generate, prepare, count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=1_000_000, help="number (%(default)s)")
    parser.add_argument("--types", type=int, default=100_000, help="words a side (%(default)s)")
    parser.add_argument("--bpe-size", type=int, default=10_000, help="merges (%(default)s)")
    parser.add_argument(
        "--held-out", type=int, default=2000, help="pairs, for validation and for test each"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--report", type=Path, help="JSON file of the numbers")
    args = parser.parse_args()
    prefix = args.work / f"corpus-{args.pairs}-{args.types}-{args.seed}"
    if not Path(f"{prefix}.{LANGS[1]}").exists():
        write_corpus(prefix, args.pairs, args.types, args.seed)
    report = prepare(args, prefix, args.work / "data")
    sizes = [Path(f"{prefix}.{lang}").stat().st_size / 2**20 for lang in LANGS]
    report["corpus"] = {"pairs": args.pairs, "MiB": round(sum(sizes)), "types a side": args.types}
    report["options"] = {"bpe_size": args.bpe_size, "workers": args.workers}
    report |= {"machine": describe_machine(cpu=True), **versions()}
    print(json.dumps(report, indent=1), file=sys.stderr)
    if args.report:
        write_json(args.report, report)
    found = accounted_for(args.work / "data")
    lost = abs(args.pairs - found)
    print(f"large corpus: tried {args.pairs}, survived {args.pairs - lost}, lost {lost}")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    run_main(main)
