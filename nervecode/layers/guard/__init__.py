"""Whether a model is still the one that its codes were made for."""
