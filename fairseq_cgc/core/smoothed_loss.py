"""Output projection, log-softmax and label smoothing in one operation, a few tokens at a time.

The scores of all tokens for all types, their log-softmax and the gradients of both are the largest
tensors of a translation model's training step. Here they exist for one chunk of tokens at a time,
which stays in a CPU's cache until its share of the loss and the gradients is added up.

Shape letters: N tokens, C channels, V types.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fairseq_cgc.core.plain import is_autocast_on

#: Scores in a chunk: 8 MiB in float32 on a CPU. A GPU needs larger products.
_CPU_CHUNK, _GPU_CHUNK = 2**21, 2**26


def smoothed_loss(
    x: Tensor, weight: Tensor, target: Tensor, smoothing: float, *, count_correct: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Label-smoothed cross-entropy of ``x @ weight.T``, summed over the tokens.

    fairseq's ``label_smoothed_nll_loss`` (Szegedy et al., CVPR 2016, section 7), without second
    derivatives. Products are in x's dtype (or autocast's), the softmax and all sums in float32 at
    least.

    Args:
        x: N x C, without padding.
        weight: V x C.
        target: N.
        smoothing: epsilon, divided equally among all types but the target.
        count_correct: count the tokens whose target has the highest score.

    Returns:
        The loss; and, without gradients, the negative log-likelihood and the number of those tokens
        (0 if not counted).

    Raises:
        RuntimeError: when the loss is differentiated with ``create_graph=True``.
    """
    if is_autocast_on(x.device.type) and x.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    differentiable = torch.is_grad_enabled()
    loss, nll, correct = _SmoothedLoss.apply(
        x, weight, target, smoothing, count_correct, differentiable
    )
    return loss, nll, correct


class _SmoothedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        target: Tensor,
        smoothing: float,
        count_correct: bool,
        differentiable: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        wanted = [differentiable and needed for needed in ctx.needs_input_grad[:2]]
        # In float16, gradients must be scaled before they are rounded, by what backward is given.
        ctx.deferred = any(wanted) and x.dtype == torch.float16
        now = [False, False] if ctx.deferred else wanted
        sums, grad_x, grad_weight = _sum_chunks(x, weight, target, smoothing, count_correct, now)
        ctx.how = (smoothing, wanted)
        ctx.save_for_backward(*((x, weight, target) if ctx.deferred else (grad_x, grad_weight)))
        loss, nll, correct = sums
        ctx.mark_non_differentiable(nll, correct)
        return loss, nll, correct

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, *unused: Any) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the chunked loss has no second derivative (create_graph=True); "
                "--criterion label_smoothed_cross_entropy has"
            )
        if ctx.deferred:
            (smoothing, wanted), (x, weight, target) = ctx.how, ctx.saved_tensors
            _, grad_x, grad_weight = _sum_chunks(
                x, weight, target, smoothing, False, wanted, grad_loss
            )
        else:
            grad_x, grad_weight = (None if g is None else g * grad_loss for g in ctx.saved_tensors)
        return grad_x, grad_weight, None, None, None, None


def _sum_chunks(
    x: Tensor,
    weight: Tensor,
    target: Tensor,
    smoothing: float,
    count_correct: bool,
    wanted: list[bool],
    scale: Tensor | None = None,
) -> tuple[list[Tensor], Tensor | None, Tensor | None]:
    """Loss, nll and correct tokens; and the wanted gradients of x and weight, times a scale."""
    types = len(weight)
    wide = torch.promote_types(x.dtype, torch.float32)
    share = smoothing / (types - 1)  # of a type that is not the target
    on_target = 1.0 - smoothing - share
    sums = [x.new_zeros((), dtype=wide), x.new_zeros((), dtype=wide)]
    sums.append(x.new_zeros((), dtype=torch.long))
    grad_x = torch.empty_like(x) if wanted[0] else None
    # Half precision would lose the last terms of this sum over the chunks.
    grad_weight = torch.zeros_like(weight, dtype=wide) if wanted[1] else None
    size = max(1, (_CPU_CHUNK if x.device.type == "cpu" else _GPU_CHUNK) // types)
    with torch.autocast(x.device.type, enabled=False):
        for start in range(0, len(x), size):
            rows = x[start : start + size]
            targets = target[start : start + size].unsqueeze(1)
            scores = (rows @ weight.t()).to(wide)
            of_targets, total = scores.gather(1, targets), scores.sum(1, keepdim=True)
            if count_correct:
                sums[2] += (scores.argmax(1, keepdim=True) == targets).sum()
            # The softmax in place: fresh memory costs more than the exponentials.
            largest = scores.amax(1, keepdim=True)
            partition = scores.sub_(largest).exp_().sum(1, keepdim=True)
            logsumexp = largest + partition.log()
            nll = (logsumexp - of_targets).sum()
            sums[0] += on_target * nll + share * (types * logsumexp - total).sum()
            sums[1] += nll
            if not any(wanted):
                continue
            # The derivative: softmax minus the smoothed target.
            grad = scores.div_(partition).sub_(share)
            grad.scatter_add_(1, targets, grad.new_tensor(-on_target).expand(targets.shape))
            grad = (grad if scale is None else grad.mul_(scale)).to(x.dtype)
            if grad_x is not None:
                torch.mm(grad, weight, out=grad_x[start : start + size])
            if grad_weight is None:
                continue
            if grad.dtype == wide:
                grad_weight.addmm_(grad.t(), rows)
            else:
                grad_weight += grad.t() @ rows
    return sums, grad_x, None if grad_weight is None else grad_weight.to(weight.dtype)
