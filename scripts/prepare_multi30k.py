"""Now ``fairseq-cgc prepare-multi30k``."""

from _moved import run

run("prepare-multi30k")
