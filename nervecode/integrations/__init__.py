"""Nervecode inside other frameworks: one file a package, loaded by nobody else."""
