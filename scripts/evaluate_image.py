"""Now ``fairseq-cgc evaluate-image``."""

from _moved import run

run("evaluate-image")
