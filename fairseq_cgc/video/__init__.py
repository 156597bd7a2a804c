"""Video models: TSN, TSM, P3D-A, TRN and ECO, plain, with non-local blocks, with CGC.

``fairseq-cgc table video`` prints a table of them all.
"""

from fairseq_cgc.video.registry import create_model, list_models

__all__ = ["create_model", "list_models"]
