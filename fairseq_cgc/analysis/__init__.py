"""Looking into gates."""
