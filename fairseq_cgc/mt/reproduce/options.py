"""The options of ``fairseq-cgc reproduce``, without importing fairseq."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from pathlib import Path

from fairseq_cgc.mt.fairseq_commands import merge_options
from fairseq_cgc.mt.reproduce.systems import SYSTEMS, TABLE_6
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.options import AT_LEAST_1, check_values, setting

#: Table -> protocol, default of --data.
TABLES = {
    "table6": ("iwslt14_de_en", Path("data/iwslt14/bin")),
    "multi30k": ("multi30k", Path("data/multi30k-bpe-en-de")),
}

#: Options of ``fairseq-train`` by which runs are told apart, and their results named.
_OF_A_RUN = {"--seed", "--save-dir", "--source-lang", "--target-lang"}


@dataclass(frozen=True)
class ReproduceOptions:
    """Every field is an option; the methods read those that have several values."""

    data: Path | None = setting(
        None,
        "folder of binarised data; for multi30k also the released BPE files ("
        + ", ".join(f"{table}: {data}" for table, (_, data) in TABLES.items())
        + ")",
    )
    out: Path | None = setting(None, "folder for all results (runs/TABLE)")
    systems: str = setting(
        ",".join(TABLE_6), f"systems, separated by commas; there are {', '.join(SYSTEMS)}"
    )
    seeds: str = setting("1", "seeds, separated by commas")
    beam: str | None = setting(None, "beam sizes, separated by commas (the protocol's)")
    max_update: int | None = setting(
        None,
        "number of updates; a larger one than before extends the runs, and RUN/stage-UPDATES keeps "
        "what they had reached (the protocol's)",
        metavar="N",
    )
    last_epochs: int | None = setting(
        None,
        "number of epoch checkpoints to average (the protocol's)",
        range_=AT_LEAST_1,
        metavar="N",
    )
    train_options: str = setting(
        "",
        "more options of fairseq-train, in one string; they replace the protocol's "
        "(for example --train-options='--fp16 --max-tokens 8192 --update-freq 1')",
    )
    reference: Path | None = setting(
        None, "raw references of the split for sacreBLEU and chrF, where the data have none"
    )
    split: str = setting(
        "test",
        "splits to translate and score, separated by commas; the files of all splits but test are "
        "called results-SPLIT",
    )
    test_data: Path | None = setting(
        None,
        "folder of other test sets, made by fairseq-cgc prepare --like; the files are called "
        "results-FOLDER-SPLIT",
        metavar="FOLDER",
    )
    jobs: int = setting(
        1,
        "number of runs at a time, each on one GPU; more runs than GPUs share them",
        range_=AT_LEAST_1,
    )
    minutes: float | None = setting(
        None, "stop after so many minutes; the same command continues (no limit)"
    )
    cpu: bool = setting(False, "do not use a GPU")
    no_training: bool = setting(False, "report the runs that have been trained, and train nothing")
    gates: bool = setting(False, "also draw and measure the gates of each system's first seed")
    dry_run: bool = setting(False, "print the commands and the parameters, run nothing")

    def __post_init__(self) -> None:
        check_values(self)
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise UserError(f"--minutes is {self.minutes:g}, but must be a number above 0")
        if self.reference is not None and len(split_words(self.split)) > 1:
            raise UserError(
                f"--split is {self.split}, but with --reference must be one split: the file has "
                "the references of one"
            )

    def numbers(self, name: str) -> list[int]:
        """Read positive integers between commas, each once.

        Raises:
            UserError: if there is anything else.
        """
        text = getattr(self, name)
        words = split_words(text)
        if not all(word.isdecimal() and int(word) > 0 for word in words):
            raise UserError(f"--{name} is {text!r}, but must be positive integers between commas")
        return list(dict.fromkeys(map(int, words)))

    def extra_options(self) -> list[str]:
        """The options of ``fairseq-train`` that replace the protocol's.

        Raises:
            UserError: if --train-options cannot be read.
        """
        try:
            options = shlex.split(self.train_options)
        except ValueError as error:
            raise UserError(f"--train-options is {self.train_options!r}: {error}") from error
        if options and not options[0].startswith("--"):
            raise UserError(
                f"--train-options is {self.train_options!r}, but must start with an option"
            )
        for option in _OF_A_RUN & merge_options(options).keys():
            raise UserError(f"--train-options has {option}, which this command sets for each run")
        if self.max_update is not None:
            options += ["--max-update", str(self.max_update)]
        return options


def split_words(text: str) -> list[str]:
    """Values between commas, each once."""
    return list(dict.fromkeys(word.strip() for word in text.split(",")))
