"""Beam search in fairseq's generator, with encoder output and decoder state once per sentence.

fairseq copies the encoder's output, and each layer's keys and values of it, for every hypothesis,
and reorders all copies at every step. Here they exist once, beside the sentence index of every
hypothesis. S is the number of sentences, N that of hypotheses.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from fairseq_cgc.inference.decoding import DecoderState

EncoderOut = dict[str, list[Tensor]]
_SENTENCES = "sentences"
_KEY = "fairseq_cgc.generation"


def reorder_lazily(encoder_out: EncoderOut, new_order: Tensor) -> EncoderOut:
    """Encoder output in a new order, without moving it.

    Args:
        encoder_out: from the encoder (T x S x C, its mask S x T), or from this function.
        new_order: the rows wanted, for instance every row as often as the beam is wide.

    Returns:
        The same tensors with the new order beside them, for :func:`per_sentence` and
        :func:`per_hypothesis`.
    """
    if _SENTENCES in encoder_out:
        sentences = encoder_out[_SENTENCES][0].index_select(0, new_order)
    else:
        sentences = new_order.clone()  # fairseq's generator changes it in place afterwards
    return {**encoder_out, _SENTENCES: [sentences]}


def per_hypothesis(encoder_out: EncoderOut) -> EncoderOut:
    """The result of fairseq's ``reorder_encoder_out``: T x N x C, and the mask N x T."""
    if _SENTENCES not in encoder_out:
        return encoder_out
    return _select(encoder_out, encoder_out[_SENTENCES][0])


def per_sentence(encoder_out: EncoderOut) -> tuple[EncoderOut, int]:
    """Encoder output of the remaining sentences, and how many hypotheses each of them has.

    The hypotheses of a sentence must be adjacent, and as many for each sentence; if not, every
    hypothesis counts as a sentence of its own.
    """
    if _SENTENCES not in encoder_out:
        return encoder_out, 1
    first, count = _first_of_each(encoder_out[_SENTENCES][0])
    return _select(encoder_out, first), count


def _select(encoder_out: EncoderOut, rows: Tensor) -> EncoderOut:
    masks = encoder_out.get("encoder_padding_mask", [])
    return {
        "encoder_out": [_index_select(x, 1, rows) for x in encoder_out["encoder_out"]],
        "encoder_padding_mask": [_index_select(mask, 0, rows) for mask in masks],
    }


def _first_of_each(sentences: Tensor) -> tuple[Tensor, int]:
    """The sentence of every n-th row, and n: the rows of each sentence, or 1 if they differ."""
    _, counts = torch.unique_consecutive(sentences, return_counts=True)
    count = int(counts[0]) if len(counts) and bool((counts == counts[0]).all()) else 1
    return sentences[::count], count


def _index_select(x: Tensor, dim: int, rows: Tensor) -> Tensor:
    """``x.index_select(dim, rows)``, or x itself where that is the same."""
    return x if _are_all(rows, x.shape[dim]) else x.index_select(dim, rows)


def _are_all(rows: Tensor, count: int) -> bool:
    """Whether the rows are the first ``count`` ones in their order."""
    return torch.equal(rows, torch.arange(count, device=rows.device))


class Generation:
    """A :class:`DecoderState` in fairseq's incremental state, with the sentence of every row.

    fairseq says only where each row comes from; which sentences have ended is found here.

    Args:
        layers: of the decoder.
        encoder_out: from :func:`per_sentence`, T x S x C.
        rows: N at the first step; row i belongs to sentence i // (N / S).
    """

    def __init__(self, layers: Iterable[Any], encoder_out: EncoderOut, rows: int) -> None:
        (x,), masks = encoder_out["encoder_out"], encoder_out.get("encoder_padding_mask", [])
        mask = masks[0].bool() if masks else None
        self.state = DecoderState(layers, x, mask, rows)
        self._sentences = _in_order(x.shape[1], rows, x.device)
        self._count = x.shape[1]

    def keep_in(self, incremental_state: dict[str, Any]) -> None:
        """Store this generation where :meth:`of` finds it."""
        incremental_state[_KEY] = self

    @staticmethod
    def of(incremental_state: dict[str, Any] | None) -> Generation | None:
        """The generation in this state, if there is one."""
        return None if incremental_state is None else incremental_state.get(_KEY)

    def reorder(self, new_order: Tensor) -> None:
        """Let row i continue what was row ``new_order[i]``.

        Which sentences stay is asked once for all layers, because the answer of a GPU takes time.
        """
        sentences = self._sentences.index_select(0, new_order)
        stay = None
        if not torch.equal(sentences, self._sentences):
            first, _ = _first_of_each(sentences)
            stay = None if _are_all(first, self._count) else first
            self._count = len(first)
            self._sentences = _in_order(len(first), len(new_order), new_order.device)
        self.state.reorder(new_order, stay)


def _in_order(sentences: int, rows: int, device: torch.device) -> Tensor:
    """The sentence of every row; all sentences have the same number of rows."""
    return torch.arange(sentences, device=device).repeat_interleave(rows // sentences)
