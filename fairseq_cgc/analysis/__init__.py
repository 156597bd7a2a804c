"""Analysis of trained models: curves, heat maps, modulated kernels and gates."""
