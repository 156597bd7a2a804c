"""Now ``fairseq-cgc compare``."""

from _moved import run

run("compare")
