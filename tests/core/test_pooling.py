import pytest
import torch
from tools import TOLERANCE, gradients, padding_mask
from torch.nn.functional import adaptive_avg_pool1d

from fairseq_cgc.core import pool_heads, reference
from fairseq_cgc.core.pooling import mask_and_average, sentence_pooling_matrix

LENGTHS = [1, 2, 8, 9, 10, 17, 27, 40]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", ["left", "right", "anywhere", "none"])
@pytest.mark.parametrize("num_heads", [1, 2, 6])
@pytest.mark.parametrize("pooled_size", [9, 39, 40, 93])
def test_equals_reference_in_outputs_and_gradients(dtype, side, num_heads, pooled_size):
    if side in ("left", "right"):
        mask = padding_mask(LENGTHS, side)
    else:
        mask = torch.rand(len(LENGTHS), max(LENGTHS)) < 0.3 if side == "anywhere" else None
    x = torch.randn(max(LENGTHS), len(LENGTHS), 12, dtype=dtype, requires_grad=True)
    got = pool_heads(x, num_heads, pooled_size, mask)
    want = reference.pool_heads(x, num_heads, pooled_size, mask)
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


@pytest.mark.parametrize("side", ["left", "right", None])
def test_masking_and_averaging_equals_autograds_in_outputs_and_gradients(side):
    mask = None if side is None else padding_mask(LENGTHS, side)
    x = torch.randn(40, len(LENGTHS), 12, requires_grad=True)

    def by_autograd():
        masked = x if mask is None else x.masked_fill(mask.t().unsqueeze(2), 0)
        return masked, masked.unflatten(2, (3, 4)).mean(3)

    ways = (lambda: mask_and_average(x, 3, mask), by_autograd)
    for ours, theirs in zip(*(way() for way in ways), strict=True):
        torch.testing.assert_close(ours, theirs)
    totals = [sum((part * part.detach().cos()).sum() for part in way()) for way in ways]
    torch.testing.assert_close(*(torch.autograd.grad(total, x)[0] for total in totals))
    for number in (0, 1):  # one output without the other
        torch.testing.assert_close(*(gradients(way()[number], [x]) for way in ways))


def test_masking_and_averaging_gradcheck():
    x = torch.randn(5, 2, 4, dtype=torch.float64, requires_grad=True)
    mask = padding_mask([3, 5], "left")
    assert torch.autograd.gradcheck(lambda x: mask_and_average(x, 2, mask), x)


def test_masking_takes_inputs_of_any_layout_and_leaves_them_alone():
    x = torch.randn(2, 5, 4).transpose(0, 1)
    before = x.clone()
    mask = padding_mask([3, 5], "left")
    masked, _ = mask_and_average(x, 2, mask)
    assert torch.equal(x, before)
    assert torch.equal(masked, x.masked_fill(mask.t().unsqueeze(2), 0))
