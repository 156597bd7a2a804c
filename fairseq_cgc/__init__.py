"""Context-Gated Convolution (Lin et al., ECCV 2020) for fairseq: ``--user-dir fairseq_cgc``.

Importing the package repairs fairseq for today's torch (:mod:`fairseq_cgc.compat`), if
fairseq is installed; :mod:`fairseq_cgc.core` needs torch only.
"""

from importlib.util import find_spec

__version__ = "0.1.0"

if find_spec("fairseq") is not None:
    from fairseq_cgc import compat

    compat.apply()
