"""Training in half precision resumes from the float32 weights that it had."""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor

_KEY = "fp32_params"  # of the optimizer's state in a checkpoint


def keep_master_weights() -> None:
    """Keep the weights that ``--bf16`` and ``--fp16`` update in the optimizer's state.

    The model's own weights are rounded copies of them. fairseq saves only those, and a resumed
    training goes on from there. Checkpoints without the float32 weights load as before.
    """
    from fairseq.optim.fp16_optimizer import _FP16OptimizerMixin as Optimizer

    state_dict, load_state_dict = Optimizer.state_dict, Optimizer.load_state_dict

    @functools.wraps(state_dict)
    def state_dict_with_weights(self: Any) -> dict[str, Any]:
        return {**state_dict(self), _KEY: [weight.detach() for weight in _master_weights(self)]}

    @functools.wraps(load_state_dict)
    def load_with_weights(
        self: Any, state: dict[str, Any], optimizer_overrides: Any = None
    ) -> None:
        load_state_dict(self, state, optimizer_overrides)
        if _KEY in state:
            for weight, kept in zip(_master_weights(self), state[_KEY], strict=True):
                weight.data.copy_(kept)

    Optimizer.state_dict = state_dict_with_weights
    Optimizer.load_state_dict = load_with_weights


def _master_weights(optimizer: Any) -> list[Tensor]:
    """One for each parameter, or, where fairseq joins them (--fp16 on a GPU), for each device."""
    weights = optimizer.fp32_params
    return list(weights.values() if isinstance(weights, dict) else weights)
