"""Training and evaluation of image models, on which that of video models is built."""

from importlib.util import find_spec

_PACKAGES = {"PIL": "pillow", "torchmetrics": "torchmetrics"}
_missing = [package for module, package in _PACKAGES.items() if find_spec(module) is None]
if _missing:
    raise ImportError(
        f"image and video models are trained with {' and '.join(_missing)}: "
        f"pip install {' '.join(_missing)}"
    )
