"""A translation experiment by its stages: prepare, train, evaluate, reproduce."""
