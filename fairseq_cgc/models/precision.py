"""Faster generation with fewer bits: bfloat16, or 8-bit linear layers (CPU only)."""

from __future__ import annotations

import os
import warnings

import torch
from torch import nn

from fairseq_cgc.core import UserError

#: Environment variable that sets the precision in fairseq-generate and fairseq-interactive.
VARIABLE = "FAIRSEQ_CGC_PRECISION"
PRECISIONS = ("float32", "bfloat16", "int8")


def check_precision(precision: str, name: str = VARIABLE) -> None:
    """Raise a UserError for an unknown precision; ``name`` is who set it."""
    if precision not in PRECISIONS:
        raise UserError(f"{name} is {precision!r}, but must be one of {', '.join(PRECISIONS)}")


def set_precision(model: nn.Module, precision: str) -> None:
    """Change a loaded model's weights, for generation only.

    ``int8`` quantises the weights of linear layers, and their inputs with a scale for the whole
    batch: a translation then depends a little on what it is batched with.

    Args:
        model: a ``LightConvCGCModel``; changed in place.
        precision: one of :data:`PRECISIONS`; ``float32`` leaves the model as it is.

    Raises:
        UserError: for int8 on a GPU, or on a torch or CPU without it.
    """
    check_precision(precision)
    if precision == "bfloat16":
        model.bfloat16()
    elif precision == "int8":
        if any(parameter.device.type != "cpu" for parameter in model.parameters()):
            raise UserError("precision int8 is for CPUs only; add --cpu or use bfloat16")
        _quantize(model)


def precision_from_environment() -> str:
    """What :data:`VARIABLE` says; ``float32`` if it is not set."""
    return os.environ.get(VARIABLE, PRECISIONS[0])


def _quantize(model: nn.Module) -> None:
    try:
        with warnings.catch_warnings():  # torch announces a successor, which is another package
            warnings.simplefilter("ignore")
            torch.ao.quantization.quantize_dynamic(
                model, {nn.Linear}, dtype=torch.qint8, inplace=True
            )
    except (AttributeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"precision int8 does not work with this torch or CPU: {reason}") from error
