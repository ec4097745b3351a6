"""A run directory: its paths, metadata and lock, and whether it is what it says."""
