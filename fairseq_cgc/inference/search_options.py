"""Options of beam search, for evaluation and for translating raw text alike."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields

import torch

from fairseq_cgc.inference.precision import PRECISIONS, check_precision
from fairseq_cgc.support.errors import UserError

#: A length of 2,000 subwords to this power is still a number of float32.
LARGEST_LENPEN = 10


@dataclass(frozen=True)
class SearchOptions:
    """How translations are searched for."""

    beam: int = 6
    nbest: int = 1
    """Translations of each sentence, the best first."""
    lenpen: float = 1.0
    """Exponent of the length by which scores are divided: > 1 favours long translations."""
    unnormalized: bool = False
    """Do not divide scores by the length."""
    unkpen: float = 0.0
    """Subtracted from the log-probability of the unknown word."""
    temperature: float = 1.0
    """By which scores are divided before the softmax."""
    min_len: int = 1
    """Fewest tokens of a translation; the end of the sentence does not count."""
    max_len_a: float | None = None
    """A translation has at most ``max_len_a`` times the source's tokens plus ``max_len_b`` tokens;
    None: ``max_len_b``, or twice the source's tokens where that is more."""
    max_len_b: int = 200
    match_source_len: bool = False
    """Translations have exactly as many tokens as the source with its end."""
    no_repeat_ngram_size: int = 0
    """No n-gram of this size occurs twice in a translation; 0 allows all."""
    max_tokens: int = 4000
    """Source tokens of a batch at most, padding included."""
    batch_size: int | None = None
    """Sentences of a batch at most."""
    cpu: bool = False
    """Do not use a GPU even if there is one."""
    precision: str = PRECISIONS[0]
    """Of the weights: one of :data:`~fairseq_cgc.inference.precision.PRECISIONS`."""

    def __post_init__(self) -> None:
        for name in ("beam", "max_tokens", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                option = name.replace("_", "-")
                raise UserError(f"--{option} must be at least 1, but is {value}")
        if not 1 <= self.nbest <= self.beam:
            raise UserError(f"--nbest must be from 1 to --beam ({self.beam}), but is {self.nbest}")
        if not self.temperature > 0:
            raise UserError(f"--temperature must be greater than 0, but is {self.temperature}")
        for name in ("min_len", "max_len_a", "no_repeat_ngram_size"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                option = name.replace("_", "-")
                raise UserError(f"--{option} must not be negative, but is {value}")
        if not -LARGEST_LENPEN <= self.lenpen <= LARGEST_LENPEN:
            raise UserError(
                f"--lenpen must be from -{LARGEST_LENPEN} to {LARGEST_LENPEN}, but is {self.lenpen}"
            )
        check_precision(self.precision, "--precision")
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
        """Give ``parser`` one option for every field.

        Args:
            parser: to add to.
            of_generation: add those too that change what is found, other than beam and lenpen.
        """
        group = parser.add_argument_group("search")
        group.add_argument("--beam", type=int, default=cls.beam, help="beam size (%(default)s)")
        group.add_argument(
            "--lenpen",
            type=float,
            help=f"length penalty: > 1 favours long, < 1 short translations ({cls.lenpen})",
        )
        if of_generation:
            cls._add_generation_arguments(group)
        group.add_argument(
            "--max-tokens",
            type=int,
            default=cls.max_tokens,
            help="source tokens in a batch at most (%(default)s)",
        )
        group.add_argument("--batch-size", type=int, help="sentences in a batch at most (no limit)")
        group.add_argument("--cpu", action="store_true", help="do not use a GPU")
        group.add_argument(
            "--precision",
            choices=PRECISIONS,
            default=cls.precision,
            help="of the weights; lightconv_cgc models only: fewer bits are faster on a CPU and "
            "change some translations; int8 is for CPUs only (%(default)s)",
        )

    @classmethod
    def _add_generation_arguments(cls, group: argparse._ArgumentGroup) -> None:
        numbers = {
            "unkpen": "subtracted from the log-probability of the unknown word",
            "temperature": "by which scores are divided before the softmax",
            "min_len": "fewest tokens of a translation",
            "max_len_a": "a translation has at most A times the source's tokens plus B tokens "
            "(default: B, or twice the source's tokens where that is more)",
            "max_len_b": "B of --max-len-a",
            "no_repeat_ngram_size": "no n-gram of this size occurs twice in a translation; 0: any",
        }
        for name, help_ in numbers.items():
            default = getattr(cls, name)
            group.add_argument(
                f"--{name.replace('_', '-')}",
                type=int if isinstance(default, int) else float,
                default=default,
                help=help_ if default is None else f"{help_} (%(default)s)",
            )
        group.add_argument(
            "--unnormalized", action="store_true", help="do not divide scores by the length"
        )
        group.add_argument(
            "--match-source-len", action="store_true", help="as many tokens as the source has"
        )
        group.add_argument(
            "--nbest",
            type=int,
            help="print so many translations of each line, each as LINE, SCORE and TEXT with tabs "
            "between them (the best one, as TEXT alone)",
        )

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> SearchOptions:
        """The options that a parser made with :meth:`add_arguments` has read.

        Raises:
            UserError: if a number is out of range.
        """
        given = {field.name: getattr(arguments, field.name, None) for field in fields(cls)}
        return cls(**{name: value for name, value in given.items() if value is not None})
