from __future__ import annotations

import pytest
import torch
from fairseq.modules.lightweight_convolution import LightweightConv1dTBC
from tools import TOLERANCE

from fairseq_cgc.models.incremental_conv import IncrementalLightConv

CHANNELS, HEADS = 12, 3
# Rows that go on after each step: as many, permuted, chosen twice, fewer, more, one, more again.
ORDERS = [
    [0, 1, 2, 3], [3, 1, 0, 2], [1, 1, 3, 3], [0, 2], [1, 0, 0, 1, 1, 0], [4, 4, 5, 1, 0, 2, 3],
    [6], [0, 0, 0], [2, 1, 0], [0, 1, 2],
]  # fmt: skip


def pair(kernel_size: int, **options: object) -> tuple[LightweightConv1dTBC, IncrementalLightConv]:
    """fairseq's convolution and ours with the same weights."""
    torch.manual_seed(1)
    options = {"weight_softmax": True, **options}
    shape = {"padding_l": kernel_size - 1, "num_heads": HEADS}
    theirs = LightweightConv1dTBC(CHANNELS, kernel_size, **shape, **options)
    ours = IncrementalLightConv(CHANNELS, kernel_size, **shape, **options)
    if theirs.bias is not None:
        torch.nn.init.normal_(theirs.bias)
    ours.load_state_dict(theirs.state_dict())
    return theirs.eval(), ours.eval()


def outputs(conv: LightweightConv1dTBC, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    state: dict = {}
    found = []
    for x, order in zip(inputs, ORDERS, strict=True):
        found.append(conv(x, incremental_state=state))
        conv.reorder_incremental_state(state, torch.tensor(order))
    return found


def random_inputs(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    rows = [len(order) for order in ORDERS]
    return [torch.randn(1, n, CHANNELS).to(dtype) for n in [4, *rows[:-1]]]


@pytest.mark.parametrize("options", [{}, {"weight_softmax": False}, {"bias": True}], ids=str)
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 7, 31])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@torch.no_grad()
def test_rows_that_come_and_go_are_convolved_as_by_fairseq(kernel_size, options, dtype):
    theirs, ours = (conv.to(dtype) for conv in pair(kernel_size, **options))
    inputs = random_inputs(dtype)
    for got, want in zip(outputs(ours, inputs), outputs(theirs, inputs), strict=True):
        torch.testing.assert_close(got, want, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@torch.no_grad()
def test_inputs_stay_where_they_are():
    _, ours = pair(5)
    state: dict = {}
    for _ in range(7):
        ours(torch.randn(1, 4, CHANNELS), incremental_state=state)
    (window,) = state.values()
    before, storage = window.inputs.clone(), window.inputs.data_ptr()
    ours.reorder_incremental_state(state, torch.tensor([3, 3, 1]))
    assert window.inputs.data_ptr() == storage and torch.equal(window.inputs, before)
    assert window.places.shape == (3, HEADS, 5)
    assert len(window.inputs) == 5  # of seven steps


@torch.no_grad()
def test_two_generations_do_not_mix_and_see_new_weights():
    theirs, ours = pair(3)
    inputs = random_inputs()
    first = outputs(ours, inputs)
    for conv in (theirs, ours):
        torch.manual_seed(2)
        torch.nn.init.normal_(conv.weight)
    second = outputs(ours, inputs)
    assert not torch.allclose(first[3], second[3])
    torch.testing.assert_close(second, outputs(theirs, inputs))


def test_gradients_flow_word_by_word_as_in_fairseq():
    inputs = random_inputs()
    for conv in (pairs := pair(3)):
        sum(out.square().sum() for out in outputs(conv, inputs)).backward()
    torch.testing.assert_close(pairs[1].weight.grad, pairs[0].weight.grad)


@torch.no_grad()
@pytest.mark.parametrize("during", ["training", "inference"])
def test_dropconnect_draws_the_numbers_of_fairseq(during):
    inputs = random_inputs()
    found = []
    for conv in pair(3, weight_dropout=0.5):
        conv.train(during == "training")
        conv.weight_dropout_module.apply_during_inference = during == "inference"
        torch.manual_seed(7)
        found.append(outputs(conv, inputs))
    assert all(torch.equal(*both) for both in zip(*found, strict=True))


@torch.no_grad()
def test_all_positions_at_once_are_fairseqs_business():
    theirs, ours = pair(7)
    x = torch.randn(11, 4, CHANNELS)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours(x, unfold=True), theirs(x, unfold=True))
    torch.testing.assert_close(ours(x[:2], {}), theirs(x[:2], {}))


@pytest.mark.parametrize("time", [1, 3, 20, 120])
@pytest.mark.parametrize("bias", [True, False])
def test_all_positions_at_once_equal_fairseq(time, bias):
    """Teacher forcing: outputs, gradients, and below 96 positions the dropped connections too."""
    options = {"padding_l": 6, "num_heads": 2, "weight_softmax": True, "bias": bias}
    dropout = 0.3 if time < 96 else 0.0
    theirs = LightweightConv1dTBC(8, 7, weight_dropout=dropout, **options).train()
    ours = LightweightConv1dTBC(8, 7, weight_dropout=dropout, **options).train()
    ours.__class__ = IncrementalLightConv
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(time, 3, 8, requires_grad=True)
    found = []
    for module in (ours, theirs):
        torch.manual_seed(3)
        out = module(x)
        grad = torch.autograd.grad(out.square().sum(), [x, *module.parameters()])
        found.append([out, *grad])
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)
