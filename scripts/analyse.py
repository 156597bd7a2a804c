"""Now ``fairseq-cgc analyse``."""

from _moved import run

run("analyse")
