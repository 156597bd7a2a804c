"""Training and evaluation of video models: ``scripts/train_video.py``, ``evaluate_video.py``."""

import fairseq_cgc.vision.training  # noqa: F401  # says which packages are missing
