"""Models: networks by name, and one pass of a network over a split."""
