"""Training and evaluation of image models: ``scripts/train_image.py``, ``evaluate_image.py``."""

from importlib.util import find_spec

_PACKAGES = {"PIL": "pillow", "torchmetrics": "torchmetrics"}
_missing = [package for module, package in _PACKAGES.items() if find_spec(module) is None]
if _missing:
    raise ImportError(
        f"image models are trained with {' and '.join(_missing)}: pip install {' '.join(_missing)}"
    )
