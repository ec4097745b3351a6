"""Data: sets by name, where they live, shifts, and the splits of a benchmark."""
