"""Now ``fairseq-cgc tokenize``."""

from _moved import run

run("tokenize")
