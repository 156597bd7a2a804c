"""Now ``fairseq-cgc evaluate-video``."""

from _moved import run

run("evaluate-video")
