"""The command line: one file per command; it parses, delegates and shows."""
