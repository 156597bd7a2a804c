"""Beam search with the results of ``fairseq-generate --beam N``, sentence by sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fairseq_cgc.inference.beams import Beams, Hypothesis
from fairseq_cgc.inference.dictionary import PAD
from fairseq_cgc.inference.model import Model
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.support.errors import UserError


class BeamSearch:
    """Beam search with one model or an ensemble.

    Args:
        models: the models, with the same dictionaries and on one device.
        options: the options of the search.
        keep_attention: whether hypotheses have attention weights.
    """

    def __init__(
        self, models: Sequence[Model], options: SearchOptions, *, keep_attention: bool = False
    ) -> None:
        self.models, self.options, self.keep_attention = list(models), options, keep_attention

    @torch.inference_mode()
    def search(
        self, sources: Sequence[Tensor], prefixes: Sequence[Sequence[int]] | None = None
    ) -> list[list[Hypothesis]]:
        """Translate a batch.

        Args:
            sources: the numbers of each sentence's types, with its end.
            prefixes: the tokens that the translation of each sentence begins with.

        Returns:
            At most ``nbest`` hypotheses of each sentence, the best first.
        """
        if not sources:
            return []
        device = self.models[0].decoder.embed_tokens.weight.device
        tokens = pad_sequence(list(sources), True, PAD).to(device)
        lengths = [len(source) for source in sources]
        mask = tokens.eq(PAD) if min(lengths) < max(lengths) else None
        encoded = [model.encoder(tokens, mask) for model in self.models]
        states = [m.decoder.begin(e) for m, e in zip(self.models, encoded, strict=True)]
        for state in states:
            state.keep_weights = self.keep_attention
        limits = [self._limit(length) for length in lengths]
        beams = Beams(self.models, self.options, states, limits, lengths, prefixes)
        with _without_cudnn_attention():
            while beams.sentences:
                beams.advance()
        return [beams.best_of(number) for number in range(len(sources))]

    def _limit(self, length: int) -> int:
        """The largest number of tokens in a translation, without its end."""
        options = self.options
        if options.match_source_len:
            limit = length
        elif options.max_len_a is None:
            limit = max(options.max_len_b, 2 * length)
        else:
            limit = int(options.max_len_a * length + options.max_len_b)
        limit = min(limit, *(model.decoder.max_positions - 1 for model in self.models))
        if options.min_len > limit:
            raise UserError(
                f"--min-len is {options.min_len}, but a sentence of {length} source tokens may "
                f"have {limit} target tokens at most (--max-len-a, --max-len-b)"
            )
        return limit


@contextmanager
def _without_cudnn_attention() -> Iterator[None]:
    """Keep torch from attention by cuDNN, its first choice on a Hopper GPU in half precision.

    cuDNN plans anew, for tenths of a second, whenever the number of sentences changes, and it does
    at every sentence that ends.
    """
    was_enabled = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(was_enabled)
