"""Results: rows of metrics, what they say over seeds and sets, and tables of them."""
