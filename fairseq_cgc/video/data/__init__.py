"""Data sets of video clips: lists, frames, sampling and generated clips."""
