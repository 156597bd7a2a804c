"""Now ``fairseq-cgc demo-corpus``."""

from _moved import run

run("demo-corpus")
