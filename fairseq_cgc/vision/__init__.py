"""Image models: ResNets, plain, with context-gated convolutions, and with attention blocks.

``fairseq-cgc table image`` prints a table of them all.
"""

from fairseq_cgc.vision.registry import create_model, list_models
from fairseq_cgc.vision.weights import load_weights

__all__ = ["create_model", "list_models", "load_weights"]
