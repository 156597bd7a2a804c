"""Faster generation with fewer bits: bfloat16, or 8-bit linear layers (CPU only)."""

from __future__ import annotations

import functools
import logging
import os

import torch
from torch import Tensor, nn

from fairseq_cgc.support.errors import UserError

logger = logging.getLogger(__name__)

#: Environment variable that sets the precision in fairseq-generate and fairseq-interactive.
VARIABLE = "FAIRSEQ_CGC_PRECISION"
PRECISIONS = ("float32", "bfloat16", "int8")
_LARGEST = 127  # the range is symmetric, so -128 is not used


def check_precision(precision: str, name: str = VARIABLE) -> None:
    """Raise a UserError for an unknown precision; ``name`` is the option that set it."""
    if precision not in PRECISIONS:
        raise UserError(f"{name} is {precision!r}, but must be one of {', '.join(PRECISIONS)}")


def set_precision(model: nn.Module, precision: str) -> None:
    """Change a loaded model's weights, for generation only.

    Args:
        model: the model; changed in place.
        precision: one of :data:`PRECISIONS`; ``float32`` leaves the model as it is, ``int8``
            replaces its linear layers by :class:`Int8Linear`.

    Raises:
        UserError: for an unknown precision, and for int8 on a GPU.
    """
    check_precision(precision)
    if precision == "bfloat16":
        model.bfloat16()
    elif precision == "int8":
        if any(parameter.device.type != "cpu" for parameter in model.parameters()):
            raise UserError("precision int8 is for CPUs only; add --cpu or use bfloat16")
        use_int8_layers(model)


def precision_from_environment() -> str:
    """The value of :data:`VARIABLE`; ``float32`` if it is not set."""
    return os.environ.get(VARIABLE, PRECISIONS[0])


class Int8Linear(nn.Module):
    """A linear layer with 8-bit weights and inputs and 32-bit sums, for inference.

    Every row of the input and every row of the weight has its own scale, so the output for a
    sentence does not depend on what it is batched with.

    Args:
        in_features: columns of the weight.
        out_features: rows of the weight.
        bias: whether the layer adds a bias.
    """

    scale: Tensor
    values: Tensor

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("values", torch.empty(out_features, in_features, dtype=torch.int8))
        self.register_buffer("scale", torch.empty(out_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None

    @classmethod
    def of(cls, linear: nn.Linear) -> Int8Linear:
        """The layer that replaces ``linear``, which may be in any floating-point dtype."""
        layer = cls(linear.in_features, linear.out_features, bias=linear.bias is not None)
        if linear.weight.is_meta:
            return layer.to("meta")  # arithmetic there would import torch's compiler
        layer.values, scale = _quantize_rows(linear.weight.detach())
        layer.scale = scale.squeeze(1)
        if linear.bias is not None:
            layer.bias = nn.Parameter(linear.bias.detach().float())
        return layer

    @property
    def weight(self) -> Tensor:
        """The weight in float32, for code that reads it instead of calling the layer."""
        return self.values * self.scale.unsqueeze(1)

    def forward(self, x: Tensor) -> Tensor:
        """``... x in_features`` to ``... x out_features`` in x's dtype."""
        rows, scale = _quantize_rows(x.reshape(-1, self.in_features))
        sums = _matmul(rows, self.values.t())
        out = sums.view(torch.float32)  # in place, as fresh memory costs more than the arithmetic
        out.copy_(sums).mul_(scale)
        if self.bias is None:
            out.mul_(self.scale)
        else:
            torch.addcmul(self.bias, out, self.scale, out=out)
        return out.to(x.dtype).view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


def use_int8_layers(model: nn.Module) -> None:
    """Replace the linear layers of a model by :class:`Int8Linear`, also on the meta device."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, Int8Linear.of(child))


def _quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """``x``, rows x columns, as int8 and the scale of each row (rows x 1, float32)."""
    x = x.float()
    # A row of zeros stays a row of zeros.
    scale = x.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny) / _LARGEST
    return (x / scale).round_().to(torch.int8), scale


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """The product of int8 matrices, in int32."""
    if _has_int8_matmul():
        return torch._int_mm(a, b)
    return (a.double() @ b.double()).int()


@functools.cache
def _has_int8_matmul() -> bool:
    """Whether torch multiplies int8 matrices on this CPU; the function is not documented."""
    try:
        probe = torch.ones(2, 3, dtype=torch.int8)
        if torch.equal(torch._int_mm(probe, probe.t()), torch.full((2, 2), 3)):
            return True
    except (AttributeError, RuntimeError):
        pass
    logger.warning(
        "this torch cannot multiply int8 matrices on this CPU: int8 saves memory, not time"
    )
    return False
