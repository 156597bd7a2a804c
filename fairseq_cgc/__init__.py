"""Context-Gated Convolution (Lin et al., ECCV 2020) for fairseq: ``--user-dir fairseq_cgc``.

Importing the package imports no other package and changes nothing: the repairs to fairseq are made
by :mod:`fairseq_cgc.models`, which ``--user-dir`` imports.
"""

from fairseq_cgc import _user_dir

__version__ = "0.1.0"

_user_dir.install()
