"""Context-Gated Convolution itself: needs torch and nothing else."""

from fairseq_cgc.core.convert import convert_to_cgc
from fairseq_cgc.core.convolution import CGConv1d, CGConv2d, CGConv3d
from fairseq_cgc.core.functional import light_convolution
from fairseq_cgc.core.gate import ContextGate
from fairseq_cgc.core.lightconv import CGLightConv, LightConv
from fairseq_cgc.core.pooling import pool_heads
from fairseq_cgc.core.sentence_gate import GATE_NORMS, GATE_TARGETS
from fairseq_cgc.support.errors import UserError

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
