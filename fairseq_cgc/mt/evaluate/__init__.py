"""Translating a test set with a trained model, and scoring it."""

# fairseq is repaired before any module here imports it.
import fairseq_cgc.models  # noqa: F401
