"""Text as models read it: tokens, subwords, and the way back."""
