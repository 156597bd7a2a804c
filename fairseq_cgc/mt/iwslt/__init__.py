"""IWSLT's corpora as fairseq's prepare-iwslt14.sh prepares them: ``scripts/prepare_iwslt14.py``.

Layers, lowest first: ``campaign`` (the files and the text in them), ``preparation`` (from an
archive to fairseq data), ``counts`` (beside those of the public archive).
"""
