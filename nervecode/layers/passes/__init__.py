"""`fit` and `calibrate`: one pass over a loader each."""
