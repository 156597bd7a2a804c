"""fairseq's beam search, and which sentences it searches for."""

from __future__ import annotations

import functools
import math
from typing import Any

from torch import Tensor

from fairseq_cgc.support.errors import UserError


def forbid_repeated_ngrams() -> None:
    """Let ``--no-repeat-ngram-size`` look at the hypotheses instead of at what pads them."""
    from fairseq.ngram_repeat_block import NGramRepeatBlock

    def _no_repeat_ngram(
        self: Any, tokens: Tensor, lprobs: Tensor, bsz: int, beam_size: int, step: int
    ) -> Tensor:
        from fairseq_cgc.inference.search import repeated_ngrams

        rows, words = repeated_ngrams(tokens[:, : step + 1], self.no_repeat_ngram_size)
        lprobs[rows, words] = -math.inf
        return lprobs

    NGramRepeatBlock._no_repeat_ngram = _no_repeat_ngram


def keep_diverse_groups_apart() -> None:
    """Let ``--diverse-beam-groups`` count overlaps by the sentence's row, not by its number.

    fairseq takes a sentence's number in the data for its row in the batch, so that any batch but
    the first is out of range, or is penalised for the words of other sentences.
    """
    from fairseq.search import DiverseBeamSearch

    step = DiverseBeamSearch.step

    @functools.wraps(step)
    def step_by_row(
        self: Any, number: int, lprobs: Tensor, scores: Any, tokens: Any, sentences: Tensor
    ) -> Any:
        if number == 0:
            self.sentences = sentences
        rows = (sentences[:, None] == self.sentences).int().argmax(1)
        return step(self, number, lprobs, scores, tokens, rows)

    DiverseBeamSearch.step = step_by_row


def generate_shards() -> None:
    """Let fairseq-generate translate the batches of ``--shard-id`` of ``--num-shards`` only."""
    from fairseq import options
    from fairseq.tasks import FairseqTask

    parse = options.parse_args_and_arch
    chosen = {"shards": 1, "shard": 0}

    @functools.wraps(parse)
    def parse_args_and_arch(*args: Any, **kwargs: Any) -> Any:
        parsed = parse(*args, **kwargs)
        chosen.update(_chosen_shard(parsed[0] if isinstance(parsed, tuple) else parsed))
        return parsed

    get_batch_iterator = FairseqTask.get_batch_iterator

    @functools.wraps(get_batch_iterator)
    def of_shard(*args: Any, num_shards: int = 1, shard_id: int = 0, **kwargs: Any) -> Any:
        # Each of several processes has a part of the shard.
        kwargs["num_shards"] = num_shards * chosen["shards"]
        kwargs["shard_id"] = shard_id * chosen["shards"] + chosen["shard"]
        return get_batch_iterator(*args, **kwargs)

    options.parse_args_and_arch = parse_args_and_arch
    FairseqTask.get_batch_iterator = of_shard


def _chosen_shard(args: Any) -> dict[str, int]:
    shards, shard = getattr(args, "num_shards", 1), getattr(args, "shard_id", 0)
    if (shards, shard) == (1, 0) or hasattr(args, "output_word_probs"):  # fairseq-eval-lm does it
        return {"shards": 1, "shard": 0}
    if not hasattr(args, "beam") or hasattr(args, "buffer_size"):
        raise UserError(f"--num-shards is {shards}, but only fairseq-generate works in shards")
    if not 0 <= shard < shards:
        raise UserError(
            f"--shard-id is {shard}, but must be at least 0 and less than --num-shards, "
            f"which is {shards}"
        )
    return {"shards": shards, "shard": shard}
