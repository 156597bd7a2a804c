import pytest
import torch
from conftest import TOLERANCE, gradients, padding_mask
from torch.nn.functional import adaptive_avg_pool1d

from fairseq_cgc.core import pool_heads, reference
from fairseq_cgc.core.pooling import sentence_pooling_matrix

LENGTHS = [1, 2, 8, 9, 10, 17, 27, 40]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("num_heads", [1, 2, 6])
def test_equals_reference_in_outputs_and_gradients(dtype, side, num_heads):
    mask = padding_mask(LENGTHS, side)
    x = torch.randn(max(LENGTHS), len(LENGTHS), 12, dtype=dtype, requires_grad=True)
    got = pool_heads(x, num_heads, 9, mask)
    want = reference.pool_heads(x, num_heads, 9, mask)
    torch.testing.assert_close(got, want, atol=TOLERANCE[dtype], rtol=0)
    torch.testing.assert_close(
        gradients(got, [x]), gradients(want, [x]), atol=TOLERANCE[dtype], rtol=0
    )


def test_long_sentences_are_pooled_as_torch_does_adaptively():
    x = torch.randn(23, 3, 4)
    want = adaptive_avg_pool1d(x.permute(1, 2, 0), 9)  # one channel per head
    torch.testing.assert_close(pool_heads(x, 4, 9), want)


def test_short_sentences_are_followed_by_zeros():
    x = torch.randn(5, 1, 2)
    got = pool_heads(x, 2, 9)
    torch.testing.assert_close(got[0, :, :5], x[:, 0].t())
    assert torch.equal(got[0, :, 5:], torch.zeros(2, 4))


def test_head_owns_neighbouring_channels():
    x = torch.arange(6.0).view(1, 1, 6)
    assert pool_heads(x, 2, 3)[0, :, 0].tolist() == [1.0, 4.0]


def test_content_of_padding_does_not_count():
    mask = padding_mask([3, 7], "left")
    x = torch.randn(7, 2, 4)
    garbage = x.masked_fill(mask.t().unsqueeze(2), float("nan"))
    assert torch.equal(pool_heads(x, 2, 9, mask), pool_heads(garbage, 2, 9, mask))


def test_without_mask_equals_mask_of_nothing():
    x = torch.randn(11, 3, 4)
    mask = torch.zeros(3, 11, dtype=torch.bool)
    assert torch.equal(pool_heads(x, 2, 9), pool_heads(x, 2, 9, mask))


def test_sentence_of_padding_only_gives_zeros():
    mask = padding_mask([0, 4], "right")
    assert torch.equal(pool_heads(torch.randn(4, 2, 4), 2, 9, mask)[0], torch.zeros(2, 9))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    x = torch.randn(40, 2, 64).to(dtype)
    got = pool_heads(x, 2, 9)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, pool_heads(x.float(), 2, 9), atol=1e-6, rtol=0)


@pytest.mark.parametrize("length", LENGTHS)
def test_rows_of_the_matrix_sum_to_one_or_zero(length):
    matrix = sentence_pooling_matrix(torch.tensor([length]), torch.arange(length).unsqueeze(0), 9)
    expected = torch.tensor([1.0] * min(length, 9) + [0.0] * (9 - min(length, 9)))
    torch.testing.assert_close(matrix[0].sum(1), expected)
