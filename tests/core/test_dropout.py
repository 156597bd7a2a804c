"""Dropout from the fast generator: rates, independence, gradients, and when torch's is used."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from fairseq_cgc.core import UserError
from fairseq_cgc.core.dropout import _CHUNK, FORCE, apply_mask, draw_mask, dropout

DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


def kept(shape: tuple[int, ...], p: float, seed: int = 0) -> Tensor:
    """1 where an element is kept, else 0."""
    torch.manual_seed(seed)
    return draw_mask(torch.empty(shape), p)[0].double()


def zscore(sample: Tensor, mean: float, variance: float) -> float:
    """How many standard deviations the mean of a sample lies from what it should be."""
    return float(sample.mean() - mean) / (variance / sample.numel()) ** 0.5


@pytest.mark.parametrize("p", [0.001, 0.1, 0.3, 0.5, 0.9])
def test_rate_and_independence_of_neighbours_rows_and_calls(p):
    mask = kept((1000, 4, 250), p)
    keep, variance = 1 - p, p * (1 - p)
    assert abs(zscore(mask, keep, variance)) < 4.5
    rates = (mask.mean((1, 2)) - keep) / (variance / 1000) ** 0.5
    assert rates.std() == pytest.approx(1, abs=0.1)  # rows vary as much as chance predicts
    centred = (mask - keep).flatten()
    # Lags within a draw of 64 bits, to the next draws, rows and chunks, and to the next call.
    other = (kept((1000, 4, 250), p, seed=1) - keep).flatten()
    lagged = {lag: centred[:-lag] * centred[lag:] for lag in (1, 2, 3, 4, 5, 8, 250, 1000, _CHUNK)}
    for lag, product in {**lagged, "call": centred * other}.items():
        assert abs(zscore(product, 0, variance**2)) < 4.5, lag


def test_calls_and_seeds_differ_and_the_same_seed_repeats():
    torch.manual_seed(1)
    first, second = (draw_mask(torch.empty(1000), 0.5)[0] for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first.double(), kept((1000,), 0.5, seed=1))
    # A longer call of the same seed begins with the same draws, across chunks.
    long = kept((2 * _CHUNK + 7,), 0.5, seed=1)
    assert torch.equal(long[: _CHUNK + 3], kept((_CHUNK + 3,), 0.5, seed=1))


@pytest.mark.parametrize("p", [0.1, 0.3, 1 / 3, 2**-16, 1 - 2**-16, 0.7654321])
def test_scale_matches_the_drawn_probability(p):
    _, scale = draw_mask(torch.empty(1), p)
    assert 1 / scale == pytest.approx(1 - p, abs=2**-17)
    dropped = (1 - 1 / scale) * 2**16
    assert dropped == pytest.approx(round(dropped), abs=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (3, _CHUNK // 2 + 5)])
def test_values_are_scaled_and_the_gradient_has_the_same_mask(shape, dtype):
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    out = dropout(x, 0.25)
    assert out.dtype == dtype
    assert out.shape == x.shape
    mask = out.detach() != 0
    assert torch.equal(out, torch.where(mask, x * (4 / 3), torch.zeros_like(x)))
    grad = torch.randn(shape, dtype=dtype)
    (got,) = torch.autograd.grad(out, x, grad)
    assert torch.equal(got, torch.where(mask, grad * (4 / 3), torch.zeros_like(x)))


def test_gradients_of_every_order():
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return dropout(x, 0.4) ** 3

    assert torch.autograd.gradcheck(run, x)
    assert torch.autograd.gradgradcheck(run, x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_output_and_gradient_are_unbiased(dtype):
    x = torch.full((400_000,), 3.0, dtype=dtype, requires_grad=True)
    out = dropout(x, 0.3)
    (grad,) = torch.autograd.grad(out.sum(), x)
    for got, want in ((out, 3.0), (grad, 1.0)):
        # bfloat16 rounds every kept value by the same factor, up to 2^-9.
        error = abs(float(got.detach().double().mean()) / want - 1)
        assert error < 0.005


@pytest.mark.parametrize(
    "view",
    [lambda x: x.t(), lambda x: x[:, ::2], lambda x: x.expand(3, -1, -1)],
    ids=["transposed", "strided", "expanded"],
)
def test_inputs_and_gradients_that_are_not_contiguous(view: Callable[[Tensor], Tensor]):
    x = view(torch.randn(6, 8)).detach().requires_grad_()
    torch.manual_seed(2)
    out = dropout(x, 0.5)
    torch.manual_seed(2)
    want = dropout(x.detach().contiguous(), 0.5)
    assert torch.equal(out, want)
    grad = torch.ones(()).expand(x.shape)
    assert torch.equal(torch.autograd.grad(out, x, grad)[0], (want != 0) * 2.0)


def test_in_place_equals_out_of_place():
    x = torch.randn(50)
    torch.manual_seed(2)
    want = dropout(x, 0.5)
    torch.manual_seed(2)
    leaf = torch.ones(50, requires_grad=True)
    inner = x * leaf
    transposed = inner.view(5, 10).t()
    got = dropout(transposed.t(), 0.5, inplace=True)
    assert torch.equal(inner, want)
    assert got.data_ptr() == inner.data_ptr()
    assert torch.equal(torch.autograd.grad(inner.sum(), leaf)[0], want)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        dropout(leaf, 0.5, inplace=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_and_everything_dropped(dtype):
    x = torch.randn(100, dtype=dtype)
    assert torch.equal(dropout(x, 0.0), x)
    assert torch.equal(dropout(x, 1.0), torch.zeros_like(x))
    for p in (-0.1, 1.1):
        with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1"):
            dropout(x, p)
    for p in (0.0, 0.5, 1.0):
        mask, scale = draw_mask(x, p)
        assert mask.all() if p == 0 else p == 0.5 or not mask.any()
        assert torch.equal(apply_mask(x, mask, scale), torch.where(mask, x * scale, 0))


def test_gradient_checkpointing_draws_the_same_again():
    x = torch.randn(64, requires_grad=True)
    results = []
    for run in (lambda f: f(x), lambda f: checkpoint(f, x, use_reentrant=False)):
        torch.manual_seed(5)
        out = run(lambda x: dropout(x.sin(), 0.5))
        results.append((out, torch.autograd.grad(out.sum(), x)[0]))
    assert all(map(torch.equal, *results))


def draws_torchs(run: Callable[[Tensor], Tensor]) -> bool:
    x = torch.randn(200)
    torch.manual_seed(4)
    got = run(x)
    torch.manual_seed(4)
    return torch.equal(got, F.dropout(x, 0.5))


def dual(x: Tensor) -> Tensor:
    with forward_ad.dual_level():
        out, tangent = forward_ad.unpack_dual(dropout(forward_ad.make_dual(x, x), 0.5))
    assert tangent is not None
    assert torch.equal(out, tangent)
    return out


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: dual,
        lambda f: lambda x: torch.func.vjp(f, x)[0],
        lambda f: torch.jit.trace(f, torch.ones(200), check_trace=False),
        lambda f: torch.compile(f, backend="eager", fullgraph=True),
    ],
    ids=["forward mode", "torch.func", "trace", "compile"],
)
def test_recorded_and_transformed_it_is_torchs_own(transform):
    assert draws_torchs(transform(lambda x: dropout(x, 0.5)))
    assert not draws_torchs(lambda x: dropout(x, 0.5))


def test_switch_draws_torchs_masks(monkeypatch):
    monkeypatch.setenv(FORCE, "torch")
    assert draws_torchs(lambda x: dropout(x, 0.5))
    assert draws_torchs(lambda x: apply_mask(x, *draw_mask(x, 0.5)))
    monkeypatch.setenv(FORCE, "numpy")
    with pytest.raises(UserError, match="FAIRSEQ_CGC_DROPOUT is 'numpy', but must be 'torch'"):
        dropout(torch.ones(1), 0.5)
