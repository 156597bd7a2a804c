"""Now ``fairseq-cgc demo``."""

from _moved import run

run("demo")
