"""From raw text to the data that ``fairseq-train`` reads."""
