"""Now ``fairseq-cgc prepare-iwslt14``."""

from _moved import run

run("prepare-iwslt14")
