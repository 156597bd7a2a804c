"""Train and score the systems of a table.

    fairseq-cgc reproduce table6 --data data/iwslt14/bin       # after prepare-iwslt14
    fairseq-cgc reproduce multi30k --data multi30k-bpe-en-de   # the released BPE files
    fairseq-cgc reproduce multi30k --systems lightconv,cgc --seeds 1,2,3

The protocols are fairseq_cgc/config/iwslt14_de_en.yaml and multi30k.yaml. Run again, it continues
where it was; a run that was made with other settings is refused. With --minutes it ends by itself,
says how far each run is, and has the exit status 75 if there is more to do.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fairseq_cgc.support.command_line import typed_command
from fairseq_cgc.support.errors import UserError

if TYPE_CHECKING:
    from fairseq_cgc.mt.reproduce.runs import Experiment

#: Exit status when --minutes were over before the end ("try again later", sysexits.h).
UNFINISHED = 75
#: Table -> protocol, default of --data.
TABLES = {
    "table6": ("iwslt14_de_en", Path("data/iwslt14/bin")),
    "multi30k": ("multi30k", Path("data/multi30k-bpe-en-de")),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from fairseq_cgc.mt.reproduce.systems import SYSTEMS, TABLE_6

    parser.add_argument(
        "table", choices=TABLES, help="Table 6 of the paper (IWSLT'14), or Multi30k"
    )
    parser.add_argument(
        "--data", type=Path,
        help="folder of binarised data; for multi30k also the released BPE files ("
        + ", ".join(f"{table}: {data}" for table, (_, data) in TABLES.items()) + ")",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder for all results (runs/TABLE)")
    parser.add_argument(
        "--systems", default=",".join(TABLE_6),
        help=f"separated by commas, of {', '.join(SYSTEMS)} (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--seeds", default="1", help="separated by commas (%(default)s)")
    parser.add_argument("--beam", help="beam sizes, separated by commas (the protocol's)")
    parser.add_argument(
        "--max-update", type=int,
        help="updates (the protocol's); a larger number than before extends the runs, and keeps "
        "what they had come to in RUN/stage-UPDATES",
    )  # fmt: skip
    parser.add_argument(
        "--last-epochs", type=int, help="epoch checkpoints to average (the protocol's)"
    )
    parser.add_argument(
        "--train-options", default="",
        help="more options of fairseq-train, in one string; they replace the protocol's "
        "(--train-options='--fp16 --max-tokens 8192 --update-freq 1')",
    )  # fmt: skip
    parser.add_argument(
        "--reference", type=Path,
        help="raw references of the split for sacreBLEU and chrF, where the data have none",
    )  # fmt: skip
    parser.add_argument(
        "--split", default="test",
        help="what is translated and scored; of another than test the files are called "
        "results-SPLIT (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=1,
        help="runs at a time, each on one GPU; more runs than GPUs share them (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=float, help="end after so many, to be continued (no limit)"
    )
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the commands and the parameters, run nothing"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the commands or run them."""
    from fairseq_cgc.mt.prepare.multi30k import binarize_multi30k, is_released_multi30k
    from fairseq_cgc.mt.reproduce.progress import standings, write_standings
    from fairseq_cgc.mt.reproduce.protocol import load_protocol
    from fairseq_cgc.mt.reproduce.report import write_report
    from fairseq_cgc.mt.reproduce.runs import Experiment, RunResult
    from fairseq_cgc.support.figures import check_can_draw
    from fairseq_cgc.support.settings_record import only_process_in

    started = time.monotonic()
    if arguments.minutes is not None and not 0 < arguments.minutes < math.inf:
        raise UserError(f"--minutes is {arguments.minutes:g}, but must be a number above 0")
    name, default_data = TABLES[arguments.table]
    protocol = load_protocol(name)
    data: Path = arguments.data or default_data
    out: Path = arguments.out or Path("runs") / arguments.table
    released = name == "multi30k" and is_released_multi30k(data)
    experiment = Experiment(
        protocol=protocol,
        data_dir=out / "data" if released else data,
        out=out,
        systems=_split(arguments.systems),
        seeds=_numbers("--seeds", arguments.seeds),
        beams=_numbers("--beam", arguments.beam) if arguments.beam else [protocol.beam],
        last_epochs=arguments.last_epochs
        if arguments.last_epochs is not None
        else protocol.last_epochs,
        extra_options=_extra_options(arguments),
        reference=arguments.reference,
        cpu=arguments.cpu,
        jobs=arguments.jobs,
        split=arguments.split,
    )
    if arguments.dry_run:
        _dry_run(experiment, data if released else None)
        return
    check_can_draw()
    if not released:
        experiment.check_data()
    with only_process_in(out):
        if released:
            binarize_multi30k(data, experiment.data_dir, protocol.source_lang, protocol.target_lang)
        command = shlex.join(typed_command())
        left = None
        if arguments.minutes is not None:
            left = 60 * arguments.minutes - (time.monotonic() - started)
        done: list[RunResult] = []
        table = ""
        for done in experiment.perform(left):
            table = write_report(experiment, done, command)
        found = standings(experiment, [result.run for result in done])
        write_standings(experiment, found, command)
    if table:
        print(f"{table}\n\nin {out}: tables (.md), numbers (.json) and pictures (.png)")
    if len(done) < len(found):
        print("\n".join(map(str, found)))
        print(f"{arguments.minutes:g} minutes are over; the same command continues")
        sys.exit(UNFINISHED)


def _dry_run(experiment: Experiment, released: Path | None) -> None:
    """Print what would be run, and the sizes of the models."""
    from fairseq_cgc.mt.prepare.multi30k import write_dictionaries
    from fairseq_cgc.mt.reproduce.report import parameter_table

    if released is not None and not experiment.data_dir.exists():
        print(f"# the text of {released} is binarised into {experiment.data_dir}")
        with tempfile.TemporaryDirectory() as folder:
            dictionaries = Path(folder) / "data"
            write_dictionaries(released, dictionaries, *experiment.languages)
            table = parameter_table(replace(experiment, data_dir=dictionaries))
    else:
        table = parameter_table(experiment)
    print("".join(f"# {line}\n" for line in table.splitlines()))
    for command in experiment.commands():
        print(command)


def _split(text: str) -> list[str]:
    """Values between commas, each once."""
    return list(dict.fromkeys(word.strip() for word in text.split(",")))


def _numbers(option: str, text: str) -> list[int]:
    """Positive integers between commas, each once."""
    words = _split(text)
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UserError(f"{option} is {text!r}, but must be positive integers between commas")
    return [int(word) for word in words]


def _extra_options(arguments: argparse.Namespace) -> list[str]:
    """What the user adds to the protocol."""
    try:
        options = shlex.split(arguments.train_options)
    except ValueError as error:
        raise UserError(f"--train-options is {arguments.train_options!r}: {error}") from error
    if options and not options[0].startswith("--"):
        raise UserError(
            f"--train-options is {arguments.train_options!r}, but must start with an option"
        )
    if arguments.max_update is not None:
        options += ["--max-update", str(arguments.max_update)]
    return options
