"""Translating with a trained model, without fairseq."""

from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.inference.translator import Translation, Translator

__all__ = ["SearchOptions", "Translation", "Translator"]
