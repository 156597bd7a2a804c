"""The source in beam search: encoder output, keys and values once a sentence.

fairseq copies the encoder's output, and each layer's keys and values of it, for every hypothesis,
and reorders all copies at every step. Here they exist once; a row of numbers tells which sentence
each hypothesis belongs to. S is the sentences, N the hypotheses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from fairseq.modules import MultiheadAttention
from torch import Tensor

EncoderOut = dict[str, list[Tensor]]
_SENTENCES = "sentences"
_STATE = "source"


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
    if torch.equal(rows, torch.arange(x.shape[dim], device=x.device)):
        return x
    return x.index_select(dim, rows)


@dataclass
class _Source:
    """What a layer keeps of the source.

    Attributes:
        keys: S x H x D x T.
        values: S x H x T x D.
        mask: S x 1 x 1 x T, True at padding.
        sentences: of which of the S each of the N rows is: in order, as many rows for each.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None
    sentences: Tensor

    def reorder(self, new_order: Tensor) -> None:
        """Let row i go on from what was row ``new_order[i]``."""
        sentences = self.sentences.index_select(0, new_order)
        if torch.equal(sentences, self.sentences):
            return
        first, _ = _first_of_each(sentences)
        self.keys = _index_select(self.keys, 0, first)
        self.values = _index_select(self.values, 0, first)
        if self.mask is not None:
            self.mask = _index_select(self.mask, 0, first)
        self.sentences = _in_order(len(first), len(new_order), new_order.device)


class SharedSourceAttention(MultiheadAttention):
    """fairseq's attention to the encoder, one set of keys and values for all beams of a sentence.

    Used step by step without dropout; otherwise fairseq's own.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor | None,
        value: Tensor | None,
        key_padding_mask: Tensor | None = None,
        incremental_state: dict[str, Any] | None = None,
        need_weights: bool = True,
        static_kv: bool = False,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; arguments and results are fairseq's.

        Keys may be of S sentences, where S divides the N rows of the query: row i then belongs to
        sentence i // (N/S).
        """
        source = self.get_incremental_state(incremental_state, _STATE)
        if source is None and not options and self._begins(query, incremental_state):
            assert key is not None
            source = self._project(key, key_padding_mask, query.shape[1])
            self.set_incremental_state(incremental_state, _STATE, source)
        if source is not None:
            return self._attend(query[0], source, need_weights)
        count = 1 if key is None else query.shape[1] // key.shape[1]
        if key is not None and count > 1 and not self.has_source(incremental_state):
            key = value = key.repeat_interleave(count, 1)
            if key_padding_mask is not None:
                key_padding_mask = key_padding_mask.repeat_interleave(count, 0)
        return super().forward(
            query, key, value, key_padding_mask, incremental_state,
            need_weights, static_kv, **options,
        )  # fmt: skip

    def _begins(self, query: Tensor, incremental_state: dict[str, Any] | None) -> bool:
        """Whether a generation begins, without dropout (--retain-dropout)."""
        dropout = self.dropout_module
        return (
            incremental_state is not None
            and not self.has_source(incremental_state)
            and len(query) == 1
            and not (dropout.p > 0 and (dropout.training or dropout.apply_during_inference))
        )

    def _project(self, encoder_out: Tensor, mask: Tensor | None, rows: int) -> _Source:
        """Keys and values of ``encoder_out``, T x S x C."""
        time, sentences, _ = encoder_out.shape
        heads = (time, sentences, self.num_heads, self.head_dim)
        return _Source(
            self.k_proj(encoder_out).view(heads).permute(1, 2, 3, 0).contiguous(),
            self.v_proj(encoder_out).view(heads).permute(1, 2, 0, 3).contiguous(),
            None if mask is None else mask.bool().view(sentences, 1, 1, time),
            _in_order(sentences, rows, encoder_out.device),
        )

    def _attend(
        self, query: Tensor, source: _Source, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """One step, N x C: the beams of a sentence against its keys in one product."""
        rows, channels = query.shape
        heads = (len(source.keys), -1, self.num_heads, self.head_dim)
        q = (self.q_proj(query) * self.scaling).view(heads).transpose(1, 2)
        scores = q @ source.keys  # S x H x beam x T
        if source.mask is not None:
            scores = scores.masked_fill_(source.mask, float("-inf"))
        weights = scores.softmax(-1, dtype=torch.float32)  # as fairseq does it
        context = weights.to(scores.dtype) @ source.values
        output = self.out_proj(context.transpose(1, 2).reshape(1, rows, channels))
        return output, weights.mean(1).view(rows, 1, -1) if need_weights else None

    def has_source(self, incremental_state: dict[str, Any] | None) -> bool:
        """Whether this generation has projected its source: not before its first step."""
        ours = self.get_incremental_state(incremental_state, _STATE)
        return ours is not None or "prev_key" in self._get_input_buffer(incremental_state)

    def reorder_incremental_state(
        self, incremental_state: dict[str, Any] | None, new_order: Tensor
    ) -> dict[str, Any] | None:
        """Reorder the hypotheses.

        Args:
            incremental_state: of this generation.
            new_order: row i goes on from what was row ``new_order[i]``.
        """
        source = self.get_incremental_state(incremental_state, _STATE)
        if source is None:
            return super().reorder_incremental_state(incremental_state, new_order)
        source.reorder(new_order)
        return incremental_state


def _in_order(sentences: int, rows: int, device: torch.device) -> Tensor:
    """Of which of the sentences each of the rows is, where all have as many."""
    return torch.arange(sentences, device=device).repeat_interleave(rows // sentences)
