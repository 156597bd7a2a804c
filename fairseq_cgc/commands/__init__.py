"""The commands of ``fairseq-cgc``, one file each: parse, call the package, print."""
