"""Checkpoints that have a gate for a kernel of a single tap, from before such kernels had none.

That gate's LayerNorm was over one number, of which it leaves its shift and nothing else: the gate
was one number for all sentences and heads, sigmoid(D relu(shift)).
"""

from __future__ import annotations

from torch import Tensor, nn

from fairseq_cgc.core.lightconv import CGLightConv


def fold_constant_gates(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Remove the gates of kernels of one tap from a model's state; its outputs stay the same.

    What the gate multiplied the convolution's output by goes into the weight of ``linear2``, the
    projection that follows the convolution in an encoder layer.

    Args:
        model: the model to be loaded, with encoder layers that have ``conv`` and ``linear2``.
        state: of the whole model; changed in place.

    Raises:
        UserError: if a gate is no constant (``--encoder-gate-norm heads``).
    """
    for name, module in model.named_modules():
        conv, linear = getattr(module, "conv", None), getattr(module, "linear2", None)
        if isinstance(conv, CGLightConv) and isinstance(linear, nn.Linear):
            prefix = f"{name}." if name else ""
            factor = conv.take_constant_gate(state, f"{prefix}conv.")
            key = f"{prefix}linear2.weight"
            if factor is not None and key in state:
                state[key] = (state[key] * factor).to(state[key].dtype)
