"""fairseq models. ``--user-dir`` imports every file here; so does ``import fairseq_cgc.models``."""

from fairseq_cgc import compat

compat.apply()

from fairseq_cgc.models.lightconv_cgc import LightConvCGCModel  # noqa: E402

__all__ = ["LightConvCGCModel"]
