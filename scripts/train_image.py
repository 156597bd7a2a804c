"""Now ``fairseq-cgc train-image``."""

from _moved import run

run("train-image")
