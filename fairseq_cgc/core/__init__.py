"""Context-Gated Convolution itself: needs torch and nothing else."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fairseq_cgc.core.functional import light_convolution
from fairseq_cgc.core.gate import ContextGate
from fairseq_cgc.core.lightconv import CGLightConv, LightConv
from fairseq_cgc.core.pooling import pool_heads
from fairseq_cgc.core.sentence_gate import GATE_NORMS, GATE_TARGETS
from fairseq_cgc.support.errors import UserError

if TYPE_CHECKING:
    from fairseq_cgc.core.convert import convert_to_cgc
    from fairseq_cgc.core.convolution import CGConv1d, CGConv2d, CGConv3d

__all__ = [
    "GATE_NORMS",
    "GATE_TARGETS",
    "CGConv1d",
    "CGConv2d",
    "CGConv3d",
    "CGLightConv",
    "ContextGate",
    "LightConv",
    "UserError",
    "convert_to_cgc",
    "light_convolution",
    "pool_heads",
]


def __getattr__(name: str) -> Any:
    # torch's counter of operations, which these need, imports Triton: translating does not wait.
    if name == "convert_to_cgc":
        return import_module("fairseq_cgc.core.convert").convert_to_cgc
    if name in ("CGConv1d", "CGConv2d", "CGConv3d"):
        return getattr(import_module("fairseq_cgc.core.convolution"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
