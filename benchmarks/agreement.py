#!/usr/bin/env python3
"""Count the sentences whose hypotheses are not those of fairseq's own decoder and search.

    python benchmarks/agreement.py DATA --checkpoint checkpoint_best.pt
    python benchmarks/agreement.py DATA --checkpoint checkpoint_best.pt --searches --limit 100
    python benchmarks/agreement.py DATA --checkpoint checkpoint_best.pt --precisions
    python benchmarks/agreement.py DATA       untrained, of IWSLT'14's size, forced lengths
    python benchmarks/agreement.py DATA --float64 --limit 200

The first compares whole n-best lists in float32, token for token. A sentence is a tie if its lists
differ only in hypotheses whose scores differ by less than 1e-5. The second compares the options of
the search, one sentence at a time, because fairseq's limits of length depend on the batch. The
third compares each precision of this package's search with itself in other batches. Without a
checkpoint, the lists of an untrained model are compared, and fairseq's with its own in smaller
batches, because rounding depends on the batch. ``--float64`` compares the scores of both searches
with those that the same translations have in float64.
"""

from __future__ import annotations

import argparse
import copy
import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from searches import fairseqs_classes, forced_length, load, options_of
from systems import build
from torch import Tensor
from tqdm import tqdm

from fairseq_cgc.inference.model import Model
from fairseq_cgc.inference.precision import PRECISIONS, set_precision
from fairseq_cgc.inference.search import BeamSearch
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.support.command_line import run_main
from fairseq_cgc.support.environment import describe_machine, versions
from fairseq_cgc.support.tables import markdown

BEAMS, BATCHES = (1, 5, 6, 12), (1, 8, 128)
TIE = 1e-5
#: Name -> options of the search; a prefix is that of the reference.
SEARCHES: dict[str, dict[str, Any]] = {
    "length penalty 2": {"lenpen": 2.0},
    "length penalty 0": {"lenpen": 0.0},
    "not normalised": {"unnormalized": True},
    "unknown penalty 3": {"unkpen": 3.0},
    "unknown penalty -3": {"unkpen": -3.0},
    "at least 20 tokens": {"min_len": 20},
    "at most 0.5 x + 3 tokens": {"max_len_a": 0.5, "max_len_b": 3},
    "the source's length": {"match_source_len": True},
    "temperature 0.5": {"temperature": 0.5},
    "temperature 2": {"temperature": 2.0},
    "no repeated bigram": {"no_repeat_ngram_size": 2},
    "prefix of 3 tokens": {"prefix": 3},
    "ensemble of 2": {"ensemble": True},
}
Hypotheses = list[tuple[list[int], float]]


def main() -> None:
    """Compare, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of binarised data")
    parser.add_argument(
        "--checkpoint", type=Path, help="checkpoint of lightconv_cgc (none: an untrained model)"
    )
    parser.add_argument(
        "--second", type=Path, help="second checkpoint of the ensemble (--checkpoint again)"
    )
    parser.add_argument("--split", default="test", help="split to translate (%(default)s)")
    parser.add_argument("--limit", type=int, help="number of sentences (all)")
    parser.add_argument("--searches", action="store_true", help="compare the search's options")
    parser.add_argument(
        "--precisions", action="store_true", help="compare batch sizes in each precision"
    )
    parser.add_argument(
        "--float64", action="store_true", help="compare scores with those in float64"
    )
    args = parser.parse_args()
    pair = _Pair(args.data, args.checkpoint, args.split, args.limit)
    if args.float64:
        head, rows = _errors(pair, forced=args.checkpoint is None)
    elif args.checkpoint is None:
        head, rows = _forced_lengths(pair)
    elif args.precisions:
        head, rows = _precisions(pair)
    elif args.searches:
        second = _Pair(args.data, args.second or args.checkpoint, args.split, args.limit)
        head, rows = _searches(pair, second)
    else:
        head, rows = _agreement(pair)
    print(f"{len(pair.sources):,} sentences of {args.split}.", "", sep="\n")
    print(*markdown(head, rows, "l" + "r" * (len(head) - 1)), "", sep="\n")
    of_versions = ", ".join(f"{name} {value}" for name, value in versions().items())
    print(f"`{shlex.join(['python', *sys.argv])}`; {describe_machine(cpu=True)}; {of_versions}.")


class _Pair:
    """The same weights in fairseq's decoder and in this package's model, and a split."""

    def __init__(self, data: Path, checkpoint: Path | None, split: str, limit: int | None) -> None:
        with fairseqs_classes():
            cfg, self.task, self.fairseqs = (
                build("cgc", data=data) if checkpoint is None else load(checkpoint, data)
            )
        self.fairseqs.eval()
        self.options = options_of(cfg)
        self.ours = self.in_precision("float32")
        self.task.load_dataset(split)
        self.dataset = self.task.dataset(split)
        count = len(self.dataset) if limit is None else min(limit, len(self.dataset))
        self.sources = [self.dataset[i]["source"] for i in range(count)]
        self.targets = [self.dataset[i]["target"] for i in range(count)]

    def in_precision(self, precision: str) -> Model:
        model = Model.from_state(self.options, self.fairseqs.state_dict())
        set_precision(model, precision)
        return model

    def batches(self, size: int) -> list[list[int]]:
        order = sorted(range(len(self.sources)), key=lambda i: len(self.sources[i]))
        return [order[i : i + size] for i in range(0, len(order), size)]

    def forced_length(self, batch: Sequence[int]) -> dict[str, int]:
        """Options that give all translations of a batch the mean length of its references."""
        return forced_length(round(sum(len(self.targets[i]) for i in batch) / len(batch)))

    def fairseq_finds(
        self, models: list[Any], batch: Sequence[int], *, prefix: int = 0, **search: Any
    ) -> list[Hypotheses]:
        sample = self.dataset.collater([self.dataset[i] for i in batch])
        generator = self.task.build_generator(models, Namespace(**search))
        tokens = sample["target"][:, :prefix] if prefix else None
        with fairseqs_classes():
            found = self.task.inference_step(generator, models, sample, prefix_tokens=tokens)
        of_id = dict(zip(sample["id"].tolist(), found, strict=True))
        return [[(h["tokens"].tolist(), float(h["score"])) for h in of_id[i]] for i in batch]

    def we_find(
        self, models: list[Model], batch: Sequence[int], *, prefix: int = 0, **search: Any
    ) -> list[Hypotheses]:
        beam = search["beam"]
        chosen = SearchOptions(nbest=search.pop("nbest", beam), cpu=True, **search)
        prefixes = [self.targets[i][:prefix].tolist() for i in batch] if prefix else None
        found = BeamSearch(models, chosen).search([self.sources[i] for i in batch], prefixes)
        return [[(h.tokens, h.score) for h in hypotheses] for hypotheses in found]


def _agreement(pair: _Pair) -> tuple[list[str], list[list[str]]]:
    rows = []
    for beam in BEAMS:
        for size in BATCHES:
            counts = _Counts()
            for batch in tqdm(pair.batches(size), desc=f"beam {beam}, batches of {size}"):
                counts.add(
                    batch,
                    pair.we_find([pair.ours], batch, beam=beam),
                    pair.fairseq_finds([pair.fairseqs], batch, beam=beam),
                )
            rows.append([f"{beam}", f"{size}", *counts.cells()])
            counts.list_differences()
    return ["beam", "batch", *_Counts.HEAD], rows


def _forced_lengths(
    pair: _Pair, beam: int = 6, size: int = 64
) -> tuple[list[str], list[list[str]]]:
    """Compare with fairseq, and fairseq with itself in batches of half the size."""
    ours, itself = _Counts(), _Counts()
    for batch in tqdm(pair.batches(size), desc=f"beam {beam}, batches of {size}"):
        search = {"beam": beam, **pair.forced_length(batch)}
        whole = pair.fairseq_finds([pair.fairseqs], batch, **search)
        ours.add(batch, pair.we_find([pair.ours], batch, **search), whole)
        halves = [batch[: size // 2], batch[size // 2 :]]
        found = [pair.fairseq_finds([pair.fairseqs], half, **search) for half in halves if half]
        itself.add(batch, [each for half in found for each in half], whole)
    ours.list_differences()
    itself.list_differences("fairseq from itself")
    rows = [
        ["ours", f"{beam}", f"{size}", *ours.cells()],
        ["fairseq", f"{beam}", f"{size // 2}", *itself.cells()],
    ]
    return ["search", "beam", "batch", *_Counts.HEAD], rows


def _searches(pair: _Pair, second: _Pair) -> tuple[list[str], list[list[str]]]:
    rows = []
    for name, changed in SEARCHES.items():
        search = {"beam": 6, **changed}
        both = [pair, second] if search.pop("ensemble", False) else [pair]
        counts = _Counts()
        for batch in tqdm(pair.batches(1), desc=name):
            counts.add(
                batch,
                pair.we_find([each.ours for each in both], batch, **search),
                pair.fairseq_finds([each.fairseqs for each in both], batch, **search),
            )
        rows.append([name, *counts.cells()])
        counts.list_differences()
    return ["search", *_Counts.HEAD], rows


def _precisions(pair: _Pair) -> tuple[list[str], list[list[str]]]:
    rows = []
    for precision in PRECISIONS:
        model = pair.in_precision(precision)
        base: dict[int, list[int]] = {}
        for size in BATCHES:
            best: dict[int, list[int]] = {}
            for batch in tqdm(pair.batches(size), desc=f"{precision}, batches of {size}"):
                found = pair.we_find([model], batch, beam=6, nbest=1)
                best |= {i: h[0][0] for i, h in zip(batch, found, strict=True)}
            base = base or best
            same = sum(best[i] == base[i] for i in base)
            rows.append([precision, f"{size}", f"{same} of {len(base)}"])
    return ["precision", "batch", "best hypothesis as in batches of 1"], rows


@torch.no_grad()
def _errors(pair: _Pair, *, forced: bool, size: int = 64) -> tuple[list[str], list[list[str]]]:
    exact = copy.deepcopy(pair.fairseqs).double()

    def exact_score(source: Tensor, tokens: list[int]) -> float:
        target = torch.tensor(tokens)
        before = torch.cat([target[-1:], target[:-1]])  # the end of the sentence comes first
        with fairseqs_classes():
            logits, _ = exact(source[None], torch.tensor([len(source)]), before[None])
        found = logits[0].log_softmax(-1).gather(1, target[:, None])
        return float(found.sum()) / len(tokens)

    found: dict[str, list[float]] = {"ours": [], "fairseq": []}
    for batch in tqdm(pair.batches(size), desc=f"batches of {size}"):
        search: dict[str, Any] = {"beam": 6, **(pair.forced_length(batch) if forced else {})}
        ours = pair.we_find([pair.ours], batch, **search)
        theirs = pair.fairseq_finds([pair.fairseqs], batch, **search)
        for errors, lists in zip(found.values(), (ours, theirs), strict=True):
            errors += [
                score - exact_score(pair.sources[i], tokens)
                for i, ((tokens, score), *_) in zip(batch, lists, strict=True)
            ]
    rows = [
        [name, f"{Tensor(errors).square().mean().sqrt():.1e}", f"{Tensor(errors).abs().max():.1e}"]
        for name, errors in found.items()
    ]
    return ["search", "root mean square error of a score", "largest"], rows


class _Counts:
    """How many sentences are equal, ties or different, and the largest difference of a score."""

    HEAD = ("equal", "ties", "different", "largest difference of a score")

    def __init__(self) -> None:
        self.equal = self.ties = 0
        self.largest = 0.0
        self.differences: list[str] = []

    def add(self, numbers: Sequence[int], ours: list[Hypotheses], theirs: list[Hypotheses]) -> None:
        for number, a, b in zip(numbers, ours, theirs, strict=True):
            scores = Tensor([[s for _, s in each] for each in (a, b)])
            gap = float((scores[0] - scores[1]).abs().max())
            if [tokens for tokens, _ in a] == [tokens for tokens, _ in b]:
                self.equal += 1
                self.largest = max(self.largest, gap)
            elif gap < TIE:
                self.ties += 1
            else:
                rank = next(i for i, (x, y) in enumerate(zip(a, b, strict=True), 1) if x[0] != y[0])
                self.differences.append(f"{number} (hypothesis {rank}, {gap:.1e})")

    def cells(self) -> list[str]:
        different = len(self.differences)
        return [f"{self.equal}", f"{self.ties}", f"{different}", f"{self.largest:.1e}"]

    def list_differences(self, what: str = "ours from fairseq") -> None:
        """Print each sentence that differs, from which hypothesis on, and the scores' distance."""
        if self.differences:
            print(f"different, {what}: {', '.join(self.differences)}", flush=True)


if __name__ == "__main__":
    run_main(main)
