"""``--criterion label_smoothed_cross_entropy_chunked``: fairseq's loss in less time and memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from fairseq.criterions import register_criterion
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
)
from torch import Tensor, nn

from fairseq_cgc.core import UserError
from fairseq_cgc.core.smoothed_loss import smoothed_loss

NAME = "label_smoothed_cross_entropy_chunked"


class _Sums(NamedTuple):
    """The decoder's output in place of scores: sums over the tokens of a batch."""

    loss: Tensor
    nll: Tensor
    correct: Tensor
    total: Tensor


@register_criterion(NAME, dataclass=LabelSmoothedCrossEntropyCriterionConfig)
class ChunkedLabelSmoothedCrossEntropyCriterion(LabelSmoothedCrossEntropyCriterion):
    """fairseq's ``label_smoothed_cross_entropy`` without the scores of all tokens at once.

    The loss takes the place of the output projection while the model is called, so that wrappers
    for distributed training see every parameter used inside the model's forward pass.
    """

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Loss, sample size and logging output of a batch; arguments and results are fairseq's.

        Raises:
            UserError: for a model that does not end in an ``output_projection`` without bias, or
                is trained with FSDP.
        """
        projection = _projection(model)
        if not reduce:  # a loss for each token
            return super().forward(model, sample, reduce=False)
        with self._in_place_of(projection, sample):
            return super().forward(model, sample)

    @contextmanager
    def _in_place_of(self, projection: nn.Linear, sample: dict[str, Any]) -> Iterator[None]:
        def forward(x: Tensor) -> _Sums:
            x, target = x[:, self.ignore_prefix_size :], sample["target"]
            target = target[:, self.ignore_prefix_size :].flatten()
            places = target.ne(self.padding_idx).nonzero().squeeze(1)
            rows = x.reshape(-1, x.shape[2]).index_select(0, places)
            sums = smoothed_loss(
                rows,
                projection.weight,
                target[places],
                self.eps,
                count_correct=self.report_accuracy,
            )
            return _Sums(*sums, target.new_tensor(len(places)))

        projection.forward = forward  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            del projection.forward

    def compute_loss(
        self, model: nn.Module, net_output: Any, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, Tensor]:
        """The loss and its negative log-likelihood."""
        if not reduce:
            return super().compute_loss(model, net_output, sample, reduce=False)
        sums = net_output[0]
        if not isinstance(sums, _Sums):
            kind = type(model).__name__
            raise _unusable(f"the decoder of {kind} does not end in output_projection")
        return sums.loss, sums.nll

    def compute_accuracy(
        self, model: nn.Module, net_output: Any, sample: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """How many tokens have the highest score, and how many there are."""
        if not isinstance(net_output[0], _Sums):
            return super().compute_accuracy(model, net_output, sample)
        return net_output[0].correct, net_output[0].total


def _projection(model: nn.Module) -> nn.Linear:
    # The classes of fairscale (which may not be installed), fairseq and torch have this name.
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        raise _unusable("--ddp-backend fully_sharded gives each process a part of the weights")
    module: Any = model
    while isinstance(getattr(module, "module", None), nn.Module):  # of a distributed wrapper
        module = module.module
    decoder = getattr(module, "decoder", None)
    if getattr(decoder, "adaptive_softmax", None) is not None:
        raise _unusable("with --adaptive-softmax-cutoff, use --criterion adaptive_loss")
    projection = getattr(decoder, "output_projection", None)
    if not isinstance(projection, nn.Linear) or projection.bias is not None:
        raise _unusable(f"{type(module).__name__} has no decoder.output_projection without bias")
    return projection


def _unusable(reason: str) -> UserError:
    return UserError(
        f"--criterion {NAME} cannot be used: {reason} (label_smoothed_cross_entropy can)"
    )
