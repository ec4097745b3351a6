"""Several processes that work on one run, and what is common to them."""
