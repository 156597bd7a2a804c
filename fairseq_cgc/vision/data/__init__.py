"""Data sets of images: reading, transforming and batching them."""
