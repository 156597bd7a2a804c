from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fairseq.models.lightconv import LightConvEncoder
from fairseq.modules import MultiheadAttention
from tools import TOLERANCE, padding_mask
from torch import nn

from fairseq_cgc.core import LightConv
from fairseq_cgc.models.beam_state import (
    Generation,
    per_hypothesis,
    per_sentence,
    reorder_lazily,
)

WIDTH, BEAM = 12, 3
LENGTHS = [5, 2, 4, 1]
# Rows that go on after each step: the beams of four sentences change places; the second sentence
# leaves; the first leaves; beams change; only the last sentence stays; its beams change.
ORDERS = [
    [1, 0, 0, 3, 4, 5, 8, 7, 6, 9, 9, 9], [0, 1, 2, 6, 6, 7, 9, 10, 9], [4, 3, 5, 8, 7, 6],
    [0, 0, 0, 3, 4, 5], [5, 4, 3], [2, 2, 0], [0, 1, 2],
]  # fmt: skip


def encoded(is_padded: bool, dtype: torch.dtype = torch.float32) -> dict[str, list[torch.Tensor]]:
    torch.manual_seed(1)
    masks = [padding_mask(LENGTHS, "right")] if is_padded else []
    return {"encoder_out": [torch.randn(5, 4, WIDTH).to(dtype)], "encoder_padding_mask": masks}


def attention_to(dtype: torch.dtype = torch.float32) -> MultiheadAttention:
    torch.manual_seed(2)
    return MultiheadAttention(WIDTH, 3, encoder_decoder_attention=True).to(dtype).eval()


def generation(attentions: list[MultiheadAttention], source: dict, rows: int) -> Generation:
    """Layers whose convolutions are of no interest here."""
    layers = [
        SimpleNamespace(
            encoder_attn=attention,
            conv=LightConv(WIDTH, 3, 3).to(source["encoder_out"][0].dtype),
            linear2=nn.Linear(WIDTH, WIDTH),
        )
        for attention in attentions
    ]
    return Generation(layers, source, rows)


class Both:
    """The same attention as fairseq computes it, a source for every row, and by ours."""

    def __init__(self, source: dict, rows: int, dtype: torch.dtype = torch.float32) -> None:
        # Ours is the second of two layers, whose sources are one.
        self.attention, other = attention_to(dtype), attention_to(dtype)
        for parameter in other.parameters():
            parameter.data.fill_(9.0)
        self.generation = generation([other, self.attention], source, rows)
        self.copied = LightConvEncoder.reorder_encoder_out(None, source, BEAMS)
        self.state: dict = {}

    def theirs(self, query: torch.Tensor) -> Any:
        (x,), (mask,) = self.copied["encoder_out"], self.copied["encoder_padding_mask"] or [None]
        output, weights = self.attention(
            query.unsqueeze(0), x, x, mask, incremental_state=self.state, static_kv=True
        )
        return output[0], weights[:, 0]

    def ours(self, query: torch.Tensor) -> Any:
        query = self.attention.q_proj(query)
        source = self.generation.state.attention
        output = self.attention.out_proj(source.attend(1, query))
        return output, source.weigh(1, query).to(output.dtype)

    def reorder(self, order: torch.Tensor) -> None:
        self.attention.reorder_incremental_state(self.state, order)
        self.generation.reorder(order)


BEAMS = torch.arange(4).repeat_interleave(BEAM)


@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("first_alike", [True, False])
@torch.no_grad()
def test_sentences_leave_and_beams_change_as_in_fairseq(is_padded, dtype, first_alike):
    both = Both(encoded(is_padded, dtype), 4 if first_alike else 12, dtype)
    tolerance = max(TOLERANCE[dtype], 1e-6)  # fairseq's softmax is in float32
    rows = 12
    for step, order in enumerate(map(torch.tensor, ORDERS)):
        query = torch.randn(rows, WIDTH).to(dtype)
        if first_alike and step == 0:  # one row stands for all beams, which follow only now
            query = query[::BEAM].repeat_interleave(BEAM, 0)
            got = [x.index_select(0, BEAMS) for x in both.ours(query[::BEAM])]
            both.generation.reorder(BEAMS)
        else:
            got = both.ours(query)
        for a, b in zip(got, both.theirs(query), strict=True):
            torch.testing.assert_close(a, b.to(dtype), atol=tolerance, rtol=tolerance)
        both.reorder(order)
        rows = len(order)


@torch.no_grad()
def test_keys_move_only_where_a_sentence_leaves():
    moving = generation([attention_to()], encoded(True), 12)
    source = moving.state.attention
    (before,) = source.keys
    assert len(before) == 4
    moving.reorder(torch.tensor(ORDERS[0]))
    assert source.keys[0] is before
    moving.reorder(torch.tensor(ORDERS[1]))
    assert torch.equal(source.keys[0], before[[0, 2, 3]])


@torch.no_grad()
def test_layers_are_reordered_together(monkeypatch):
    """A comparison waits for a GPU: there are as many for three layers as for one."""
    moving = generation([attention_to() for _ in range(3)], encoded(True), 12)
    compared = []
    equal = torch.equal
    monkeypatch.setattr(torch, "equal", lambda *tensors: compared.append(1) or equal(*tensors))
    for order in map(torch.tensor, ORDERS):
        compared.clear()
        moving.reorder(order)
        assert len(compared) <= 2


@torch.no_grad()
def test_rows_in_any_order_get_keys_of_their_own():
    both = Both(encoded(True), 12)
    query = torch.randn(12, WIDTH)
    torch.testing.assert_close(both.ours(query), both.theirs(query))
    both.reorder(torch.tensor([11, 0, 0, 5, 2]))  # sentences 3, 0, 0, 1, 0
    query = torch.randn(5, WIDTH)
    torch.testing.assert_close(both.ours(query), both.theirs(query))
    assert len(both.generation.state.attention.keys[0]) == 5


@pytest.mark.parametrize("is_padded", [True, False])
def test_order_of_encoder_output_is_kept_in_mind(is_padded):
    source = encoded(is_padded)
    ours = reorder_lazily(source, BEAMS)
    theirs = LightConvEncoder.reorder_encoder_out(None, source, BEAMS)
    assert ours["encoder_out"][0] is source["encoder_out"][0]
    for order in map(torch.tensor, ORDERS):
        got = per_hypothesis(ours)
        assert got.keys() == theirs.keys()
        torch.testing.assert_close(got, theirs, rtol=0, atol=0)
        got, beam = per_sentence(ours)
        assert beam == BEAM
        repeated = torch.arange(got["encoder_out"][0].shape[1]).repeat_interleave(BEAM)
        again = LightConvEncoder.reorder_encoder_out(None, got, repeated)
        torch.testing.assert_close(again, theirs, rtol=0, atol=0)
        changing = order.clone()
        ours, theirs = (
            reorder_lazily(ours, changing),
            LightConvEncoder.reorder_encoder_out(None, theirs, order),
        )
        changing.zero_()


def test_encoder_output_in_any_order_has_a_row_a_hypothesis():
    source = encoded(True)
    for rows in ([0, 0, 1], [2, 0, 2, 0], []):
        got, beam = per_sentence(reorder_lazily(source, torch.tensor(rows, dtype=torch.long)))
        assert beam == 1
        torch.testing.assert_close(got["encoder_out"][0], source["encoder_out"][0][:, rows])
    assert per_sentence(source) == (source, 1)
    assert per_hypothesis(source) is source
