"""Find the layer of a model that is to be analysed."""

from __future__ import annotations

from math import prod
from typing import TypeVar

from torch import nn
from torch.nn.modules.conv import _ConvNd

from fairseq_cgc.core import CGConv1d, CGConv2d, CGConv3d, UserError
from fairseq_cgc.vision.weights import ADDITIONS

GATED = (CGConv1d, CGConv2d, CGConv3d)
_Layer = TypeVar("_Layer", bound=nn.Module)


def find_layer(
    model: nn.Module, name: str | None, kinds: type[_Layer] | tuple[type[_Layer], ...]
) -> tuple[str, _Layer]:
    """Find a layer, and return its name and the module.

    Args:
        model: any module.
        name: as in ``named_modules``. ``None`` chooses the last gated convolution; in a model
            without gates, the last convolution with a kernel larger than 1 that is not an
            addition to a plain ResNet (an offset, attention).
        kinds: the classes that are allowed.

    Raises:
        UserError: if there is no such layer; the message lists the names that are allowed.
    """
    allowed = {n: m for n, m in model.named_modules() if isinstance(m, kinds)}
    if not allowed:
        names = [kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,))]
        wanted = "gated convolution" if kinds == GATED else " or ".join(names)
        raise UserError(f"{type(model).__name__} has no {wanted}")
    if name is None:
        gated = [n for n, m in allowed.items() if isinstance(m, GATED)]
        spatial = [n for n, m in allowed.items() if _is_spatial(m) and not _is_addition(n)]
        name = (gated or spatial or list(allowed))[-1]
    if name not in allowed:
        raise UserError(f"--layer is {name!r}, but must be one of {', '.join(allowed)}")
    return name, allowed[name]


def _is_spatial(layer: nn.Module) -> bool:
    return isinstance(layer, _ConvNd) and prod(layer.kernel_size) > 1


def _is_addition(name: str) -> bool:
    return not ADDITIONS.keys().isdisjoint(name.split("."))
