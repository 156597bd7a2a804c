"""Now ``fairseq-cgc train-video``."""

from _moved import run

run("train-video")
