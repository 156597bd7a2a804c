"""The loss in chunks, against fairseq's formula written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from fairseq_cgc.core import smoothed_loss as module
from fairseq_cgc.core.smoothed_loss import smoothed_loss


def reference(x: Tensor, weight: Tensor, target: Tensor, smoothing: float) -> list[Tensor]:
    """Loss, nll and correct tokens, from the definition."""
    scores = (x @ weight.t()).log_softmax(1, dtype=torch.promote_types(x.dtype, torch.float32))
    nll = -scores.gather(1, target.unsqueeze(1)).sum()
    share = smoothing / (len(weight) - 1)
    loss = (1 - smoothing - share) * nll - share * scores.sum()
    return [loss, nll, (scores.argmax(1) == target).sum()]


def case(tokens: int, types: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(tokens, 6, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(types, 6, dtype=torch.float64).to(dtype).requires_grad_()
    return x, weight, torch.randint(0, types, (tokens,))


# Relative errors: bfloat16 rounds scores, gradients and chunks of gradients.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("tokens", "types"), [(0, 5), (1, 2), (7, 30), (50, 30)])
def test_equals_the_definition_across_chunks(tokens, types, smoothing, dtype, monkeypatch):
    monkeypatch.setattr(module, "_CPU_CHUNK", 8 * types)
    x, weight, target = case(tokens, types, dtype)
    got = smoothed_loss(x, weight, target, smoothing, count_correct=True)
    want = reference(x, weight, target, smoothing)
    torch.testing.assert_close(list(got), want, rtol=TOLERANCE[dtype], atol=1e-9)
    assert [t.requires_grad for t in got] == [True, False, False]
    for scale in (1.0, 0.3):
        grads = [torch.autograd.grad(loss * scale, [x, weight], retain_graph=True)
                 for loss in (got[0], want[0])]  # fmt: skip
        for ours, theirs in zip(*grads, strict=True):
            error = (ours - theirs).double().norm() / theirs.double().norm().clamp(min=1e-30)
            assert ours.dtype == dtype
            assert error <= TOLERANCE[dtype]


@pytest.mark.parametrize("frozen", ["x", "weight"])
def test_gradient_of_what_needs_one(frozen):
    x, weight, target = case(20, 9, torch.float64)
    (x if frozen == "x" else weight).requires_grad_(False)
    needed = weight if frozen == "x" else x
    got, want = (f(x, weight, target, 0.1)[0] for f in (smoothed_loss, reference))
    torch.testing.assert_close(*(torch.autograd.grad(loss, needed)[0] for loss in (got, want)))


def test_gradcheck():
    x, weight, target = case(5, 4, torch.float64)
    assert torch.autograd.gradcheck(lambda x, w: smoothed_loss(x, w, target, 0.2)[0], (x, weight))


def test_other_derivatives_raise():
    x, weight, target = case(5, 4, torch.float64)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(smoothed_loss(x, weight, target, 0.1)[0], x, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.func.grad(lambda x: smoothed_loss(x, weight, target, 0.1)[0])(x)
    with forward_ad.dual_level(), pytest.raises(NotImplementedError):
        smoothed_loss(forward_ad.make_dual(x, x), weight, target, 0.1)


def test_float16_gradients_survive_a_loss_scale():
    """Shares of the smoothing far below what float16 can hold, but for the scale of the loss."""
    x, weight, target = case(3, 3000, torch.float16)
    x.data *= 0.01
    got = torch.autograd.grad(smoothed_loss(x, weight, target, 0.1)[0] * 1024, x)[0].float() / 1024
    want = torch.autograd.grad(reference(x.float(), weight.float(), target, 0.1)[0], x)[0].float()
    assert (got - want).norm() / want.norm() < 2e-3


def test_autocast():
    x, weight, target = case(20, 9, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = smoothed_loss(x, weight, target, 0.1)[0]
        want = F.cross_entropy(F.linear(x, weight).float(), target, reduction="sum")
    grads = torch.autograd.grad(got, [x, weight])
    assert [g.dtype for g in grads] == [torch.float32] * 2
    assert got.item() == pytest.approx(want.item(), rel=0.1)


class Largest(TorchDispatchMode):
    """The largest tensor, and the number of products, while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = self.products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.numel = max(self.numel, out.numel())
        self.products += func.name() in ("aten::mm", "aten::mm.out", "aten::addmm_")
        return out


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16])
def test_scores_of_all_tokens_never_exist(dtype, monkeypatch):
    monkeypatch.setattr(module, "_CPU_CHUNK", 16 * 100)
    x, weight, target = case(400, 100, dtype)
    with Largest() as seen:
        smoothed_loss(x, weight, target, 0.1)[0].backward()
    assert seen.numel < 400 * 100 / 4
    with Largest() as seen, torch.no_grad():
        smoothed_loss(x, weight, target, 0.1)
    assert seen.products == 25  # without gradients, one of each chunk
