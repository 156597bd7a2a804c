"""Data sets of images."""

from __future__ import annotations

from fairseq_cgc.vision.data.dataset import MemorySamples, Samples, Statistics

__all__ = ["Images", "MemoryImages", "Statistics"]


class Images(Samples):
    """One split of a data set; a batch is uint8, B x C x H x W."""

    noun = "images"


class MemoryImages(MemorySamples, Images):
    """Small images of one size, N x C x H x W, all in memory."""
