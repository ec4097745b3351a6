"""The command line: one file per command; it parses, delegates and shows."""

from nervecode.errors import need_lab

need_lab("nervecode.cli")
