"""Running ``fairseq-train``, averaging its checkpoints and reading its log."""
