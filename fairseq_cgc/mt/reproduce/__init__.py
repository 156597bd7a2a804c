"""Tables of results: several systems, several seeds, one command."""

# fairseq is repaired before any module here imports it.
import fairseq_cgc.models  # noqa: F401
