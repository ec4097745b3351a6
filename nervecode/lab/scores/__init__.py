"""Scores of inputs: in files, and in shards that make up one."""
