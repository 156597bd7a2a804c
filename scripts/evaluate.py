"""Now ``fairseq-cgc evaluate``."""

from _moved import run

run("evaluate")
