"""The coders of both recipes: fitted, learned, and that of the label."""
