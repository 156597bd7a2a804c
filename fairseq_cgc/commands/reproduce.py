"""Train and score the systems of a table.

    fairseq-cgc reproduce table6 --data data/iwslt14/bin       # after prepare-iwslt14
    fairseq-cgc reproduce multi30k --data multi30k-bpe-en-de   # the released BPE files
    fairseq-cgc reproduce multi30k --systems lightconv,cgc --seeds 1,2,3
    fairseq-cgc reproduce multi30k --beam 5,6 --split test,test1 --no-training --gates

The protocols are fairseq_cgc/config/iwslt14_de_en.yaml and multi30k.yaml. Run again, the command
continues where it stopped; runs that were made with other settings are refused. With --minutes it
ends by itself, reports how far each run is, and exits with status 75 if there is more to do.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fairseq_cgc.support.errors import UserError

if TYPE_CHECKING:
    from fairseq_cgc.mt.reproduce.options import ReproduceOptions
    from fairseq_cgc.mt.reproduce.runs import Experiment, RunResult

#: Exit status when --minutes were over before the end ("try again later", sysexits.h).
UNFINISHED = 75


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from fairseq_cgc.mt.reproduce.options import TABLES, ReproduceOptions
    from fairseq_cgc.support.options import add_options

    parser.add_argument(
        "table", choices=TABLES, help="Table 6 of the paper (IWSLT'14), or Multi30k"
    )
    add_options(parser, ReproduceOptions)


def run(arguments: argparse.Namespace) -> None:
    """Print the commands or run them."""
    from fairseq_cgc.mt.prepare.multi30k import binarize_multi30k, is_released_multi30k
    from fairseq_cgc.mt.reproduce.options import TABLES, ReproduceOptions
    from fairseq_cgc.support.figures import check_can_draw
    from fairseq_cgc.support.options import given_values
    from fairseq_cgc.support.settings_record import only_process_in

    started = time.monotonic()
    options = ReproduceOptions(**given_values(arguments, ReproduceOptions))
    name, default_data = TABLES[arguments.table]
    data = options.data or default_data
    out = options.out or Path("runs") / arguments.table
    released = name == "multi30k" and is_released_multi30k(data)
    experiments = _experiments(options, name, out / "data" if released else data, out)
    first = experiments[0]
    if options.dry_run:
        _dry_run(first, data if released else None)
        return
    check_can_draw()
    if not released:
        for experiment in experiments:
            experiment.check_data()
    with only_process_in(out):
        if released:
            binarize_multi30k(data, first.data_dir, *first.languages)
        for experiment in experiments:
            left = None
            if options.minutes is not None:
                left = 60 * options.minutes - (time.monotonic() - started)
            done = _perform(experiment, left)
            if len(done) < len(experiment.runs()):
                print(f"{options.minutes:g} minutes are over; the same command continues")
                sys.exit(UNFINISHED)
        if options.gates:
            _report_gates(first)


def _experiments(
    options: ReproduceOptions, name: str, data_dir: Path, out: Path
) -> list[Experiment]:
    """One for each split; they have the trainings in common."""
    from fairseq_cgc.mt.reproduce.options import split_words
    from fairseq_cgc.mt.reproduce.protocol import load_protocol
    from fairseq_cgc.mt.reproduce.runs import Experiment

    protocol = load_protocol(name)
    return [
        Experiment(
            protocol=protocol,
            data_dir=data_dir,
            out=out,
            systems=split_words(options.systems),
            seeds=options.numbers("seeds"),
            beams=options.numbers("beam") if options.beam else [protocol.beam],
            last_epochs=options.last_epochs or protocol.last_epochs,
            extra_options=options.extra_options(),
            reference=options.reference,
            cpu=options.cpu,
            jobs=options.jobs,
            split=split,
            test_data=options.test_data,
            train=not options.no_training,
        )
        for split in split_words(options.split)
    ]


def _perform(experiment: Experiment, seconds: float | None) -> list[RunResult]:
    """Do what is missing, and write and print the table; how far the runs are, if time is over."""
    from fairseq_cgc.mt.reproduce.progress import standings, write_standings
    from fairseq_cgc.mt.reproduce.report import write_report
    from fairseq_cgc.support.command_line import typed_command

    command = shlex.join(typed_command())
    done: list[RunResult] = []
    table = ""
    for done in experiment.perform(seconds):
        table = write_report(experiment, done, command)
    found = standings(experiment, [result.run for result in done])
    if not found:
        raise UserError(f"no run in {experiment.out} has been trained to its end")
    write_standings(experiment, found, command)
    if table:
        print(f"{table}\n\nin {experiment.out}: tables (.md), numbers (.json) and pictures (.png)")
    if len(done) < len(found):
        print("\n".join(map(str, found)))
    return done


def _report_gates(experiment: Experiment) -> None:
    """Draw the gates of each gated system's first seed as ``fairseq-cgc analyse gates`` does."""
    from fairseq_cgc.analysis.translation_reports import report_gates
    from fairseq_cgc.mt.reproduce.systems import SYSTEMS
    from fairseq_cgc.support.files import write_json

    for run in experiment.runs():
        if SYSTEMS[run.system].has_gates and run.seed == experiment.seeds[0]:
            picture = experiment.out / f"gates-{run.system}.png"
            result = report_gates(
                experiment.model(run).path, [experiment.test_dir], picture,
                split=[experiment.split], layer=None, limit=5000,
                options=experiment.search(experiment.beams[0]),
            )  # fmt: skip
            write_json(picture.with_suffix(".json"), result)
            print(picture)


def _dry_run(experiment: Experiment, released: Path | None) -> None:
    """Print what would be run, and the sizes of the models."""
    from fairseq_cgc.mt.prepare.multi30k import write_dictionaries
    from fairseq_cgc.mt.reproduce.dry_run import commands, parameter_table

    if released is not None and not experiment.data_dir.exists():
        print(f"# the text of {released} is binarised into {experiment.data_dir}")
        with tempfile.TemporaryDirectory() as folder:
            dictionaries = Path(folder) / "data"
            write_dictionaries(released, dictionaries, *experiment.languages)
            table = parameter_table(replace(experiment, data_dir=dictionaries))
    else:
        table = parameter_table(experiment)
    print("".join(f"# {line}\n" for line in table.splitlines()))
    print(*commands(experiment), sep="\n")
