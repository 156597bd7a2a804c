"""The source in beam search: encoder output, keys and values once a sentence.

fairseq copies the encoder's output, and each layer's keys and values of it, for every hypothesis,
and reorders all copies at every step. Here they exist once; a row of numbers tells which sentence
each hypothesis belongs to. S is the sentences, N the hypotheses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from fairseq.modules import MultiheadAttention
from torch import Tensor

EncoderOut = dict[str, list[Tensor]]
_SENTENCES = "sentences"


def reorder_lazily(encoder_out: EncoderOut, new_order: Tensor) -> EncoderOut:
    """Encoder output in a new order, without moving it.

    Args:
        encoder_out: from the encoder (T x S x C, its mask S x T), or from this function.
        new_order: the rows wanted, for instance every row as often as the beam is wide.

    Returns:
        The same tensors, and which of their rows the new rows are: what
        :func:`one_row_a_sentence` and :func:`one_row_a_hypothesis` read.
    """
    if _SENTENCES in encoder_out:
        sentences = encoder_out[_SENTENCES][0].index_select(0, new_order)
    else:
        sentences = new_order.clone()  # fairseq's generator changes it in place afterwards
    return {**encoder_out, _SENTENCES: [sentences]}


def one_row_a_hypothesis(encoder_out: EncoderOut) -> EncoderOut:
    """What fairseq's ``reorder_encoder_out`` would have given: T x N x C, and the mask N x T."""
    if _SENTENCES not in encoder_out:
        return encoder_out
    return _select(encoder_out, encoder_out[_SENTENCES][0])


def one_row_a_sentence(encoder_out: EncoderOut) -> tuple[EncoderOut, int]:
    """Encoder output of the sentences that are still there, and the hypotheses of each.

    The hypotheses of a sentence must follow each other, as many for each sentence; if not, every
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
    """The sentence of every n-th row; n is the rows of each sentence, or 1 if they differ."""
    _, counts = torch.unique_consecutive(sentences, return_counts=True)
    count = int(counts[0]) if len(counts) and bool((counts == counts[0]).all()) else 1
    return sentences[::count], count


def _index_select(x: Tensor, dim: int, rows: Tensor) -> Tensor:
    """``x.index_select(dim, rows)``, or x itself where that is the same."""
    return x if _are_all(rows, x.shape[dim]) else x.index_select(dim, rows)


def _are_all(rows: Tensor, count: int) -> bool:
    """Whether the rows are the first ``count`` ones in their order."""
    return torch.equal(rows, torch.arange(count, device=rows.device))


class Source:
    """Keys and values of the encoder's output for the layers of a decoder.

    Args:
        attentions: of the layers, to the encoder.
        encoder_out: from :func:`one_row_a_sentence`, T x S x C.
        rows: N of the first step; row i belongs to sentence i // (N / S).
    """

    def __init__(
        self, attentions: Sequence[MultiheadAttention], encoder_out: EncoderOut, rows: int
    ) -> None:
        (x,), masks = encoder_out["encoder_out"], encoder_out.get("encoder_padding_mask", [])
        time, count, _ = x.shape
        self.heads = (attentions[0].num_heads, attentions[0].head_dim)
        by_head = (time, count, *self.heads)
        #: Of each layer, S x H x T x D.
        self.keys = [_of_heads(a.k_proj(x).view(by_head)) for a in attentions]
        self.values = [_of_heads(a.v_proj(x).view(by_head)) for a in attentions]
        #: S x 1 x 1 x T, added to the scores: minus infinity at padding.
        self.mask: Tensor | None = None
        for mask in masks:
            self.mask = x.new_zeros(count, 1, 1, time)
            self.mask.masked_fill_(mask.bool().view_as(self.mask), float("-inf"))
        #: Of which of the S each of the N rows is: in order, as many rows for each.
        self.sentences = _in_order(count, rows, x.device)

    def attend(self, number: int, query: Tensor) -> Tensor:
        """What a layer finds for the beams of a sentence, in one product.

        Args:
            number: of the layer.
            query: N x C.

        Returns:
            N x C.
        """
        context = F.scaled_dot_product_attention(
            self._of_sentences(query), self.keys[number], self.values[number], self.mask
        )
        return context.transpose(1, 2).reshape(query.shape)

    def weigh(self, number: int, query: Tensor) -> Tensor:
        """The attention weights behind :meth:`attend`, the mean of the heads: N x T."""
        scores = self._of_sentences(query) @ self.keys[number].transpose(2, 3)
        scores = scores * self.heads[1] ** -0.5
        if self.mask is not None:
            scores = scores + self.mask
        return scores.softmax(-1, dtype=torch.float32).mean(1).flatten(0, 1)

    def reorder(self, new_order: Tensor) -> Tensor | None:
        """Let row i go on from what was row ``new_order[i]``; nothing moves within a sentence.

        Which sentences stay is asked once for all layers: a GPU is waited for until it answers.

        Returns:
            The sentences that stay, by their numbers until now; None where all do, in their order.
        """
        sentences = self.sentences.index_select(0, new_order)
        if torch.equal(sentences, self.sentences):
            return None
        first, _ = _first_of_each(sentences)
        self.sentences = _in_order(len(first), len(new_order), new_order.device)
        if _are_all(first, len(self.keys[0])):
            return None
        self.keys = [keys.index_select(0, first) for keys in self.keys]
        self.values = [values.index_select(0, first) for values in self.values]
        self.mask = None if self.mask is None else self.mask.index_select(0, first)
        return first

    def _of_sentences(self, query: Tensor) -> Tensor:
        """N x C to S x H x beam x D."""
        return query.view(len(self.keys[0]), -1, *self.heads).transpose(1, 2)


def _of_heads(x: Tensor) -> Tensor:
    """T x S x H x D to S x H x T x D."""
    return x.permute(1, 2, 0, 3).contiguous()


def _in_order(sentences: int, rows: int, device: torch.device) -> Tensor:
    """Of which of the sentences each of the rows is, where all have as many."""
    return torch.arange(sentences, device=device).repeat_interleave(rows // sentences)
