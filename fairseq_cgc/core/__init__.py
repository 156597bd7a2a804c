"""Context-Gated Convolution itself: needs torch and nothing else."""

from fairseq_cgc.core.errors import UserError
from fairseq_cgc.core.functional import light_convolution
from fairseq_cgc.core.gate import ContextGate
from fairseq_cgc.core.lightconv import GATE_TARGETS, CGLightConv, LightConv
from fairseq_cgc.core.pooling import pool_heads

__all__ = [
    "GATE_TARGETS",
    "CGLightConv",
    "ContextGate",
    "LightConv",
    "UserError",
    "light_convolution",
    "pool_heads",
]
