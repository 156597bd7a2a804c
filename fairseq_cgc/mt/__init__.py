"""What surrounds a translation experiment: corpora, subwords, averaging, search, scores."""
