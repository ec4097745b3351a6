"""New inputs scored by a finished run, read a batch at a time, in memory that does not grow."""
