"""Translating a test set with a trained model, and scoring it."""
