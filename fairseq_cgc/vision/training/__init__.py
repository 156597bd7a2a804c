"""Training and evaluation of image models, on which that of video models is built."""
