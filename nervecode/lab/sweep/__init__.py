"""Many cells: a config and a seed each, run by whatever starts processes."""
