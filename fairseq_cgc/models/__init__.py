"""fairseq models. ``--user-dir`` imports every file here; so does ``import fairseq_cgc.models``."""

from importlib.util import find_spec

if find_spec("fairseq") is None:
    raise ImportError(
        "fairseq_cgc.models needs fairseq: pip install cython numpy setuptools wheel, then "
        "pip install --no-build-isolation fairseq-fixed==0.12.3.1"
    )

from fairseq_cgc import compat

compat.apply()

from fairseq_cgc.models import chunked_criterion, prepared_text  # noqa: E402, F401  (registers)
from fairseq_cgc.models.lightconv_cgc import LightConvCGCModel  # noqa: E402

__all__ = ["LightConvCGCModel"]
