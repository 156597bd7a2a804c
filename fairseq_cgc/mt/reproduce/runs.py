"""A table of results: train, average, translate and score every system with every seed.

Every run has a folder ``OUT/SYSTEM-seedSEED``. Each of its steps is whole or absent and is not done
twice, so an interrupted experiment continues where it stopped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue

import torch

from fairseq_cgc.inference.binarised import split_files
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.inference.text.pipeline import find_pipeline
from fairseq_cgc.mt.evaluate.evaluation import Model, evaluate, plain_references, prepare_model
from fairseq_cgc.mt.evaluate.metrics import Scores
from fairseq_cgc.mt.fairseq_commands import as_words, merge_options, stop_fairseq
from fairseq_cgc.mt.prepare.binarize import check_path
from fairseq_cgc.mt.reproduce.parameters import count_parameters
from fairseq_cgc.mt.reproduce.protocol import Protocol
from fairseq_cgc.mt.reproduce.stages import is_stage, keep_stage, model_of_stage, stage_folder
from fairseq_cgc.mt.reproduce.systems import SYSTEMS, system_options
from fairseq_cgc.mt.train.training import LOG, finished_updates, train
from fairseq_cgc.mt.train.training_log import Speed, read_log, training_speed
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import sha256_of


@dataclass(frozen=True)
class Run:
    """One training and its evaluations."""

    system: str
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """What tables and messages call it."""
        return f"{SYSTEMS[self.system].name}, seed {self.seed}"


@dataclass(frozen=True)
class RunResult:
    """What came out of a run."""

    run: Run
    parameters: int
    weights: dict[str, int | None]
    """The checkpoints behind the scores (an average, or one alone) and their updates."""
    speed: Speed
    scores: dict[int, Scores]
    """Beam -> scores of the split."""
    outputs: dict[int, Path]
    """Beam -> folder of the translations."""


@dataclass(frozen=True)
class Experiment:
    """Which systems are compared, on which data, and how."""

    protocol: Protocol
    data_dir: Path
    out: Path
    systems: list[str]
    seeds: list[int]
    beams: list[int]
    last_epochs: int
    """How many epoch checkpoints to average."""
    extra_options: list[str] = field(default_factory=list)
    """Options of ``fairseq-train`` that replace the protocol's."""
    reference: Path | None = None
    """Raw references of the split, where the data have none."""
    cpu: bool = False
    jobs: int = 1
    """Runs at the same time. Each has one GPU; more runs than GPUs share them."""
    split: str = "test"
    """What is translated and scored."""
    test_data: Path | None = None
    """Folder of the split, where that is not ``data_dir``; it has the same dictionaries."""
    train: bool = True
    """Whether to train; else only runs that have been trained to their end are scored."""

    def __post_init__(self) -> None:
        for system in self.systems:
            system_options(system, self.protocol)
        _ = self.max_update  # checks it, before anything is written

    def runs(self) -> list[Run]:
        """All systems with the first seed, then with the next.

        For a run that has been extended since, this is the stage with the experiment's updates.
        """
        found = []
        for seed in self.seeds:
            for system in self.systems:
                folder = self.out / f"{system}-seed{seed}"
                stage = stage_folder(folder, self.max_update)
                found.append(Run(system, seed, stage if stage.is_dir() else folder))
        return found if self.train else [run for run in found if self._is_trained(run)]

    def _is_trained(self, run: Run) -> bool:
        ended = finished_updates(self.data_dir, run.folder, self.train_options(run))
        return is_stage(run.folder) or ended == self.max_update

    @property
    def test_dir(self) -> Path:
        """The folder of the split that is scored."""
        return self.test_data or self.data_dir

    @property
    def test_name(self) -> str:
        """What the results are named after: the split, and the folder if it is another one."""
        if self.test_data is None:
            return self.split
        folder = self.test_data.resolve()
        return f"{(folder.parent if folder.name == 'bin' else folder).name}-{self.split}"

    @property
    def max_update(self) -> int:
        """Updates of every run.

        Raises:
            UserError: if their number is not positive; for fairseq, 0 would be no limit.
        """
        options = merge_options([*self.protocol.train_options, *self.extra_options])
        number = " ".join(options["--max-update"])
        if not number.isdecimal() or int(number) < 1:
            raise UserError(f"--max-update is {number or 'empty'}, but must be at least 1")
        return int(number)

    def train_options(self, run: Run) -> list[str]:
        """Options of ``fairseq-train`` for a run."""
        options = [*system_options(run.system, self.protocol), *self.protocol.train_options]
        device = ["--cpu"] if self.cpu else []
        seed = ["--seed", str(run.seed)]
        keep = ["--keep-last-epochs", str(max(self.last_epochs, self.protocol.last_epochs))]
        return as_words(merge_options([*options, *seed, *keep, *self.extra_options, *device]))

    def search(self, beam: int) -> SearchOptions:
        """Options of beam search."""
        return SearchOptions(beam=beam, lenpen=self.protocol.lenpen, cpu=self.cpu)

    def parameters(self) -> dict[str, int]:
        """System -> number of parameters with the dictionaries of the data."""
        self._check_dictionaries()
        runs = {run.system: run for run in self.runs()}
        return {
            system: count_parameters(self.data_dir, self.train_options(run))
            for system, run in runs.items()
        }

    def check_data(self) -> None:
        """Raise UserError if the data are not there, or incomplete."""
        self._check_dictionaries()
        for split in ("train", "valid"):
            split_files(self.data_dir, split, self.languages)
        # Missing references are reported now, not after the first training.
        pipeline = find_pipeline(self.test_dir, self.languages)
        plain_references(self.test_dir, self.split, self.languages, pipeline, self.reference)
        for name in (f"dict.{lang}.txt" for lang in self.languages):
            if sha256_of(self.test_dir / name) != sha256_of(self.data_dir / name):
                raise UserError(
                    f"--test-data {self.test_data} has another {name} than {self.data_dir}; "
                    "fairseq-cgc prepare --like makes test sets with the same dictionaries"
                )

    def _check_dictionaries(self) -> None:
        check_path(self.data_dir)
        for lang in self.languages:
            if not (self.data_dir / f"dict.{lang}.txt").is_file():
                raise UserError(
                    f"--data {self.data_dir} is no folder of binarised data: it has no "
                    f"dict.{lang}.txt"
                )

    def perform(self, seconds: float | None = None) -> Iterator[list[RunResult]]:
        """Train and score what is missing.

        Args:
            seconds: end after so many, whatever is under way then; no limit if missing.

        Yields:
            The results so far, in the order of the table, whenever runs have ended.

        Raises:
            UserError: if the data are incomplete, or a step fails.
        """
        end = None if seconds is None else time.monotonic() + seconds
        self.check_data()
        parameters = self.parameters()
        slots: SimpleQueue[int] = SimpleQueue()
        for slot in range(self.jobs):
            slots.put(slot)
        order = self.runs()
        results: dict[Run, RunResult] = {}
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = [
                pool.submit(self._perform, run, parameters[run.system], slots) for run in order
            ]
            pending = set(futures)
            try:
                while pending:
                    left = None if end is None else max(0.0, end - time.monotonic())
                    done, pending = wait(pending, left, FIRST_COMPLETED)
                    if not done:
                        return
                    results |= {result.run: result for result in (f.result() for f in done)}
                    yield [results[run] for run in order if run in results]
            finally:
                # After an error or Ctrl-C, the threads must not wait until their trainings end.
                pool.shutdown(wait=False, cancel_futures=True)
                _stop(futures)

    def _perform(self, run: Run, parameters: int, slots: SimpleQueue[int]) -> RunResult:
        slot = slots.get()
        try:
            environment = self._environment(slot)
            options = self.train_options(run)
            ended = finished_updates(self.data_dir, run.folder, options)
            if not is_stage(run.folder) and ended is not None and ended < self.max_update:
                # Continuing deletes the checkpoints of the last epochs.
                stage = keep_stage(run.folder, ended, self.model(run))
                self._score(replace(run, folder=stage), parameters, slot)
            train(
                self.data_dir, run.folder, options,
                name=run.name, environment=environment, position=slot,
            )  # fmt: skip
            return self._score(run, parameters, slot)
        finally:
            slots.put(slot)

    def _score(self, run: Run, parameters: int, slot: int) -> RunResult:
        model = self.model(run)
        scores, outputs = {}, {}
        for beam in self.beams:
            scores[beam], outputs[beam] = evaluate(
                model,
                self.test_dir,
                split=self.split,
                options=self.search(beam),
                reference=self.reference,
                output=run.folder / f"{self.test_name}.beam{beam}",
                device=self._device(slot),
            )
        speed = training_speed(read_log(run.folder / LOG))
        names = [path.name for path in model.inputs]
        weights = dict(zip(names, model.updates, strict=True))
        return RunResult(run, parameters, weights, speed, scores, outputs)

    def model(self, run: Run) -> Model:
        """What is scored of a run that has been trained."""
        if is_stage(run.folder):
            return model_of_stage(run.folder)
        return prepare_model(run.folder, {"last_epochs": self.last_epochs}, or_fewer=True)

    def _device(self, slot: int) -> torch.device | None:
        return torch.device("cuda", slot % self._gpus) if self._gpus else None

    def _environment(self, slot: int) -> dict[str, str]:
        threads = max(1, (os.cpu_count() or 1) // self.jobs)
        environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
        if self._gpus:
            # One GPU for each run: on several, fairseq's batches would be several times as large.
            given = os.environ.get("CUDA_VISIBLE_DEVICES")
            names = given.split(",") if given else [str(number) for number in range(self._gpus)]
            environment["CUDA_VISIBLE_DEVICES"] = names[slot % self._gpus]
        return environment

    @property
    def _gpus(self) -> int:
        return 0 if self.cpu else torch.cuda.device_count()

    @property
    def lowercase(self) -> bool:
        """Whether the text was lower-cased, so that scores must ignore case."""
        pipeline = find_pipeline(self.test_dir, self.languages)
        return pipeline.lowercase if pipeline else False

    @property
    def languages(self) -> tuple[str, str]:
        """Source and target language."""
        return self.protocol.source_lang, self.protocol.target_lang


def _stop(futures: Collection[Future[RunResult]]) -> None:
    """End the runs under way; one that is between two commands starts another, so try again."""
    while any(future.running() for future in futures):
        stop_fairseq()
        wait(futures, timeout=0.2)
