"""Now ``fairseq-cgc average``."""

from _moved import run

run("average")
