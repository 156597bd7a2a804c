"""Now ``fairseq-cgc translate``."""

from _moved import run

run("translate")
