"""Tables of results: several systems, several seeds, one command."""
