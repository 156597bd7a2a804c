"""fairseq's beam search."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor


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
