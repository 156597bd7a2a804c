"""fairseq's beam search: its options, and which sentences it translates."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from fairseq_cgc.compat.replacing import replaces
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.options import option_of


def forbid_repeated_ngrams() -> None:
    """Let --no-repeat-ngram-size work on a CPU, where fairseq looks at the padding instead."""
    from fairseq.ngram_repeat_block import NGramRepeatBlock

    def _no_repeat_ngram(
        self: Any, tokens: Tensor, lprobs: Tensor, bsz: int, beam_size: int, step: int
    ) -> Tensor:
        from fairseq_cgc.inference.beams import repeated_ngrams

        rows, words = repeated_ngrams(tokens[:, : step + 1], self.no_repeat_ngram_size)
        lprobs[rows, words] = -math.inf
        return lprobs

    NGramRepeatBlock._no_repeat_ngram = _no_repeat_ngram


def keep_diverse_groups_apart() -> None:
    """Let --diverse-beam-groups count the overlaps within each sentence.

    fairseq takes a sentence's number in the data for its row in the batch, so that any batch but
    the first is out of range, or is penalised for the words of other sentences.
    """
    from fairseq.search import DiverseBeamSearch

    @replaces(DiverseBeamSearch, "step")
    def step(
        original: Any, self: Any, step: int, lprobs: Tensor, scores: Any, tokens: Any, ids: Tensor
    ) -> Any:
        if step == 0:
            self.sentences = ids
        rows = (ids[:, None] == self.sentences).int().argmax(1)
        return original(self, step, lprobs, scores, tokens, rows)


def generate_shards() -> None:
    """Heed --num-shards and --shard-id in fairseq-generate, which ignores them."""
    from fairseq import options
    from fairseq.tasks import FairseqTask

    shards, shard = 1, 0

    @replaces(options, "parse_args_and_arch")
    def parse_args_and_arch(original: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal shards, shard
        parsed = original(*args, **kwargs)
        shards, shard = _chosen_shard(parsed[0] if isinstance(parsed, tuple) else parsed)
        return parsed

    @replaces(FairseqTask, "get_batch_iterator")
    def get_batch_iterator(
        original: Any, *args: Any, num_shards: int = 1, shard_id: int = 0, **kwargs: Any
    ) -> Any:
        # Each of several processes has a part of the shard.
        kwargs["num_shards"] = num_shards * shards
        kwargs["shard_id"] = shard_id * shards + shard
        return original(*args, **kwargs)


def _chosen_shard(args: Any) -> tuple[int, int]:
    shards, shard = getattr(args, "num_shards", 1), getattr(args, "shard_id", 0)
    if (shards, shard) == (1, 0) or hasattr(args, "output_word_probs"):  # fairseq-eval-lm does it
        return 1, 0
    if not hasattr(args, "beam") or hasattr(args, "buffer_size"):
        raise UserError(f"--num-shards is {shards}, but only fairseq-generate works in shards")
    if not 0 <= shard < shards:
        raise UserError(
            f"--shard-id is {shard}, but must be at least 0 and less than --num-shards, "
            f"which is {shards}"
        )
    return shards, shard


def check_search() -> None:
    """Refuse --beam 0 and --nbest 0, which would end in a traceback."""
    from fairseq.tasks import FairseqTask

    @replaces(FairseqTask, "build_generator")
    def build_generator(original: Any, self: Any, models: Any, args: Any, **kwargs: Any) -> Any:
        check_generation(args)
        return original(self, models, args, **kwargs)


def check_generation(options: Any) -> None:
    """Check options of beam search, of fairseq-generate or ``--eval-bleu-args``."""
    for name in ("beam", "nbest"):
        check_least(name, getattr(options, name, 1), 1)


def check_least(name: str, value: Any, least: int) -> None:
    """Raise UserError if the option ``name`` has a value that is too small; None is allowed."""
    if value is not None and value < least:
        raise UserError(f"{option_of(name)} is {value}, but must be at least {least}")
