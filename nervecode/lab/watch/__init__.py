"""Scored inputs watched as they come: no torch."""
