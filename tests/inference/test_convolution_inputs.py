from __future__ import annotations

import pytest
import torch
from fairseq.modules.lightweight_convolution import LightweightConv1dTBC
from tools import TOLERANCE

from fairseq_cgc.inference.convolution_inputs import ConvolutionInputs

CHANNELS, HEADS = 12, 3
# Rows that go on after each step: as many, permuted, chosen twice, fewer, more, one, more again.
ORDERS = [
    [0, 1, 2, 3], [3, 1, 0, 2], [1, 1, 3, 3], [0, 2], [1, 0, 0, 1, 1, 0], [4, 4, 5, 1, 0, 2, 3],
    [6], [0, 0, 0], [2, 1, 0], [0, 1, 2],
]  # fmt: skip


def fairseqs(kernel_size: int, **options: object) -> LightweightConv1dTBC:
    options = {"weight_softmax": True, "padding_l": kernel_size - 1, **options}
    return LightweightConv1dTBC(CHANNELS, kernel_size, num_heads=HEADS, **options).eval()


def kernel_of(conv: LightweightConv1dTBC) -> torch.Tensor:
    weight = conv.weight.detach().transpose(0, 1)  # 1 x H x K
    return weight.softmax(2, torch.float32).to(weight.dtype) if conv.weight_softmax else weight


def inputs_of(kernels: list[torch.Tensor], rows: int) -> ConvolutionInputs:
    zeros = torch.zeros(rows, CHANNELS, dtype=kernels[0].dtype)
    return ConvolutionInputs(kernels, [k.shape[2] for k in kernels], HEADS, zeros)


def random_inputs(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    rows = [len(order) for order in ORDERS]
    return [torch.randn(n, CHANNELS).to(dtype) for n in [4, *rows[:-1]]]


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("kernel_sizes", [[1], [2], [3, 7, 3], [31, 1]], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@torch.no_grad()
def test_rows_that_come_and_go_are_convolved_as_by_fairseq(kernel_sizes, softmax, dtype):
    convs = [fairseqs(size, weight_softmax=softmax).to(dtype) for size in kernel_sizes]
    inputs = inputs_of([kernel_of(conv) for conv in convs], 4)
    state: dict = {}
    for x, order in zip(random_inputs(dtype), map(torch.tensor, ORDERS), strict=True):
        inputs.begin_step()
        for number, conv in enumerate(convs):
            scaled = x * (number + 1)
            got = inputs.convolve(number, scaled)
            want = conv(scaled.unsqueeze(0), incremental_state=state)[0]
            torch.testing.assert_close(got, want, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
            conv.reorder_incremental_state(state, order)
        inputs.reorder(order, None)


@torch.no_grad()
def test_inputs_stay_where_they_are():
    inputs = inputs_of([torch.rand(1, HEADS, 5), torch.rand(1, HEADS, 2)], 4)
    for _ in range(7):
        inputs.begin_step()
        for number in range(2):
            inputs.convolve(number, torch.randn(4, CHANNELS))
    before = [(x.clone(), x.data_ptr()) for x in inputs._inputs]
    inputs.reorder(torch.tensor([3, 3, 1]), None)
    for x, (values, storage) in zip(inputs._inputs, before, strict=True):
        assert x.data_ptr() == storage and torch.equal(x, values)
    assert inputs._rows.shape == (3, 5)
    assert [len(x) for x in inputs._inputs] == [5, 2]  # of seven steps


@torch.no_grad()
def test_kernels_of_sentences_go_where_their_sentences_go():
    kernels = torch.rand(3, HEADS, 4)
    inputs = inputs_of([torch.rand(1, HEADS, 2), kernels], 6)
    history, rows = torch.zeros(4, 6, CHANNELS), torch.arange(3).repeat_interleave(2)
    # Beams change; a sentence leaves; two change places; a third beam; one sentence stays.
    for order, stay in (
        ([1, 0, 2, 2, 4, 5], None),
        ([2, 3, 4, 5], [1, 2]),
        ([3, 2, 0, 0], [1, 0]),
        ([0, 1, 1, 2, 3, 3], None),
        ([4, 3, 5], [1]),
        ([0, 1, 2], None),
    ):
        x = torch.randn(len(rows), CHANNELS)
        inputs.begin_step()
        inputs.convolve(0, x)
        history = torch.cat([history[1:], x.unsqueeze(0)])
        seen = history.unflatten(2, (HEADS, -1))
        want = torch.einsum("knhr,nhk->nhr", seen, kernels[rows]).flatten(1)
        torch.testing.assert_close(inputs.convolve(1, x), want)
        inputs.reorder(torch.tensor(order), None if stay is None else torch.tensor(stay))
        history, rows = history[:, order], rows[order]
