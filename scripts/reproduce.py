"""Now ``fairseq-cgc reproduce``."""

from _moved import run

run("reproduce")
