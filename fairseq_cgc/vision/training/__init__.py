"""Training and evaluation of image models, on which that of video models is built."""

from importlib.util import find_spec

if find_spec("PIL") is None:
    raise ImportError("image and video models are trained with pillow: pip install pillow")
