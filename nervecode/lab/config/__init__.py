"""Configs: from names and texts to one resolved config."""
