from __future__ import annotations

from typing import Any

import pytest
import torch
from fairseq.models.lightconv import LightConvEncoder
from fairseq.modules import MultiheadAttention
from tools import TOLERANCE, padding_mask

from fairseq_cgc.models.source_attention import (
    SharedSourceAttention,
    one_row_a_hypothesis,
    one_row_a_sentence,
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
    out = {"encoder_out": [torch.randn(5, 4, WIDTH).to(dtype)]}
    return {**out, "encoder_padding_mask": [padding_mask(LENGTHS, "right")]} if is_padded else out


def pair(dtype: torch.dtype = torch.float32) -> tuple[MultiheadAttention, SharedSourceAttention]:
    torch.manual_seed(2)
    theirs = MultiheadAttention(WIDTH, 3, encoder_decoder_attention=True)
    ours = SharedSourceAttention(WIDTH, 3, encoder_decoder_attention=True)
    ours.load_state_dict(theirs.state_dict())
    return theirs.to(dtype).eval(), ours.to(dtype).eval()


def attend(
    attention: MultiheadAttention, query: torch.Tensor, source: dict, state: dict, **options: Any
) -> Any:
    (x,), (mask,) = source["encoder_out"], source.get("encoder_padding_mask") or [None]
    options = {"key": x, "value": x, "key_padding_mask": mask, "static_kv": True, **options}
    return attention(query=query, incremental_state=state, **options)


BEAMS = torch.arange(4).repeat_interleave(BEAM)


@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("first_alike", [True, False])
@torch.no_grad()
def test_sentences_leave_and_beams_change_as_in_fairseq(is_padded, dtype, first_alike):
    theirs, ours = pair(dtype)
    source = encoded(is_padded, dtype)
    copied = LightConvEncoder.reorder_encoder_out(None, source, BEAMS)
    states: tuple[dict, dict] = ({}, {})
    rows = 12
    for step, order in enumerate(map(torch.tensor, ORDERS)):
        query = torch.randn(1, rows, WIDTH).to(dtype)
        if first_alike and step == 0:  # one row stands for all beams, which follow only now
            query = query[:, ::BEAM].repeat_interleave(BEAM, 1)
            got = attend(ours, query[:, ::BEAM].clone(), source, states[1])
            got = [got[0].index_select(1, BEAMS), got[1].index_select(0, BEAMS)]
            ours.reorder_incremental_state(states[1], BEAMS)
        else:
            got = attend(ours, query.clone(), source, states[1])
        want = attend(theirs, query, copied, states[0])
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
        theirs.reorder_incremental_state(states[0], order)
        ours.reorder_incremental_state(states[1], order)
        rows = len(order)


def keys(state: dict) -> torch.Tensor:
    (source,) = state.values()
    return source.keys


@torch.no_grad()
def test_keys_move_only_where_a_sentence_leaves():
    _, ours = pair()
    state: dict = {}
    assert not ours.has_source(state)
    attend(ours, torch.randn(1, 12, WIDTH), encoded(True), state)
    assert ours.has_source(state)
    before = keys(state)
    assert len(before) == 4
    ours.reorder_incremental_state(state, torch.tensor(ORDERS[0]))
    assert keys(state) is before
    ours.reorder_incremental_state(state, torch.tensor(ORDERS[1]))
    assert torch.equal(keys(state), before[[0, 2, 3]])


@pytest.mark.parametrize("during", ["training", "inference"])
@torch.no_grad()
def test_dropout_draws_the_numbers_of_fairseq(during):
    source = encoded(True)
    copied = LightConvEncoder.reorder_encoder_out(None, source, BEAMS)
    found = []
    for attention, out in zip(pair(), (copied, source), strict=True):
        attention.dropout_module.p = 0.5
        attention.train(during == "training")
        attention.dropout_module.apply_during_inference = during == "inference"
        torch.manual_seed(4)
        state: dict = {}
        found.append(attend(attention, torch.randn(1, 12, WIDTH), out, state))
        attention.reorder_incremental_state(state, torch.tensor(ORDERS[1]))
        found[-1] += attend(attention, torch.randn(1, 9, WIDTH), out, state)
    torch.testing.assert_close(*found)


@torch.no_grad()
def test_rows_in_any_order_get_keys_of_their_own():
    theirs, ours = pair()
    source = encoded(True)
    copied = LightConvEncoder.reorder_encoder_out(None, source, BEAMS)
    states: tuple[dict, dict] = ({}, {})
    order = torch.tensor([11, 0, 0, 5, 2])  # sentences 3, 0, 0, 1, 0
    found = []
    for attention, source_out, state in ((theirs, copied, states[0]), (ours, source, states[1])):
        torch.manual_seed(3)
        attend(attention, torch.randn(1, 12, WIDTH), source_out, state)
        attention.reorder_incremental_state(state, order)
        found.append(attend(attention, torch.randn(1, 5, WIDTH), source_out, state))
    torch.testing.assert_close(found[1], found[0])
    assert len(keys(states[1])) == 5


@torch.no_grad()
def test_state_that_fairseq_began_is_fairseqs():
    theirs, ours = pair()
    found = []
    for attention in (theirs, ours):
        torch.manual_seed(5)
        state: dict = {}
        buffer = {"prev_key": torch.randn(4, 3, 5, 4), "prev_value": torch.randn(4, 3, 5, 4)}
        attention._set_input_buffer(state, buffer)
        found.append(attend(attention, torch.randn(1, 4, WIDTH), encoded(False), state))
    torch.testing.assert_close(*found)


@torch.no_grad()
def test_all_positions_at_once_are_fairseqs_business():
    theirs, ours = pair()
    source = encoded(True)
    query = torch.randn(6, 4, WIDTH)
    got = [attend(attention, query.clone(), source, None) for attention in (ours, theirs)]
    torch.testing.assert_close(*got)


@pytest.mark.parametrize("is_padded", [True, False])
def test_order_of_encoder_output_is_kept_in_mind(is_padded):
    source = encoded(is_padded)
    ours = reorder_lazily(source, BEAMS)
    theirs = LightConvEncoder.reorder_encoder_out(None, source, BEAMS)
    assert ours["encoder_out"][0] is source["encoder_out"][0]
    for order in map(torch.tensor, ORDERS):
        got = one_row_a_hypothesis(ours)
        assert got.keys() == theirs.keys()
        torch.testing.assert_close(got, theirs, rtol=0, atol=0)
        got, beam = one_row_a_sentence(ours)
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
        got, beam = one_row_a_sentence(reorder_lazily(source, torch.tensor(rows, dtype=torch.long)))
        assert beam == 1
        torch.testing.assert_close(got["encoder_out"][0], source["encoder_out"][0][:, rows])
    assert one_row_a_sentence(source) == (source, 1)
    assert one_row_a_hypothesis(source) is source
