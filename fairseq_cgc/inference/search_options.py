"""Options of beam search, for evaluation and for raw text."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import torch

from fairseq_cgc.inference.precision import PRECISIONS, check_precision
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.options import (
    AT_LEAST_0,
    AT_LEAST_1,
    Range,
    add_options,
    between,
    check_values,
    demand,
    given_values,
    setting,
)

#: A length of 2,000 subwords to this power is still a number of float32.
LARGEST_LENPEN = 10
_LONGEST = 10**9

_OF_GENERATION = ("nbest", "unnormalized", "unkpen", "temperature", "min_len", "max_len_a",
                  "max_len_b", "match_source_len", "no_repeat_ngram_size")  # fmt: skip


@dataclass(frozen=True)
class SearchOptions:
    """How translations are searched for."""

    beam: int = setting(6, "beam size", range_=AT_LEAST_1)
    nbest: int = setting(
        1,
        "number of translations to print for each line, each as LINE, SCORE and TEXT separated by "
        "tabs (default: the best one, as TEXT alone)",
    )
    lenpen: float = setting(
        1.0,
        "exponent of the length by which scores are divided: > 1 favours long translations",
        range_=between(-LARGEST_LENPEN, LARGEST_LENPEN),
    )
    unnormalized: bool = setting(False, "do not divide scores by the length")
    unkpen: float = setting(
        0.0,
        "number subtracted from the log-probability of the unknown word; inf: it is never chosen",
        range_=Range("more than -inf", lambda value: value > -math.inf),
    )
    temperature: float = setting(
        1.0,
        "number by which scores are divided before the softmax",
        range_=between(0.001, 1000),  # further out, scores are infinite, or all the same
    )
    min_len: int = setting(
        1, "fewest tokens in a translation, its end not counted", range_=AT_LEAST_0
    )
    max_len_a: float | None = setting(
        None,
        "a translation has at most A times the source's tokens plus --max-len-b (without it: "
        "--max-len-b, or twice the source's tokens where that is more)",
        range_=between(0, _LONGEST),
    )
    max_len_b: int = setting(200, "see --max-len-a", range_=between(-_LONGEST, _LONGEST))
    match_source_len: bool = setting(
        False, "make translations exactly as long as the source, its end counted"
    )
    no_repeat_ngram_size: int = setting(
        0, "no n-gram of this size occurs twice in a translation; 0: any may", range_=AT_LEAST_0
    )
    max_tokens: int = setting(
        4000, "largest number of source tokens in a batch, padding included", range_=AT_LEAST_1
    )
    batch_size: int | None = setting(
        None, "largest number of sentences in a batch (no limit)", range_=AT_LEAST_1
    )
    cpu: bool = setting(False, "do not use a GPU even if there is one")
    precision: str = setting(
        PRECISIONS[0],
        "precision of the weights, for lightconv_cgc and lightconv models; fewer bits are faster "
        "on a CPU and change some translations; int8 is for CPUs only",
        PRECISIONS,
    )

    def __post_init__(self) -> None:
        check_precision(self.precision, "--precision")
        check_values(self)
        fits = 1 <= self.nbest <= self.beam
        demand(self, "nbest", fits, f"from 1 to --beam ({self.beam})")
        if self.precision == "int8" and self.device.type != "cpu":
            raise UserError("--precision int8 is for CPUs only; add --cpu")

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return torch.device("cuda" if torch.cuda.is_available() and not self.cpu else "cpu")

    @property
    def device_name(self) -> str:
        """What a speed was measured on."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name()
        return f"CPU, {torch.get_num_threads()} threads"

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser, *, of_generation: bool = False) -> None:
        """Give ``parser`` options for the fields; the values of those not given are None.

        Args:
            parser: to add to.
            of_generation: add those too that change what is found, other than beam and lenpen.
        """
        leave_out = () if of_generation else _OF_GENERATION
        add_options(parser.add_argument_group("search"), cls, leave_out=leave_out)

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> SearchOptions:
        """The options that a parser made with :meth:`add_arguments` has read.

        Raises:
            UserError: if a number is out of range.
        """
        return cls(**given_values(arguments, cls))
