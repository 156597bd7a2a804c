"""Data sets of images: reading, transforming and batching them."""

from importlib.util import find_spec

if find_spec("PIL") is None:
    raise ImportError("image and video models are trained with pillow: pip install pillow")
