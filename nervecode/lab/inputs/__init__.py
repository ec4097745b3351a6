"""Inputs to score: where they lie, read a batch at a time."""
