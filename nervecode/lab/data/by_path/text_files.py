"""Text files of users: UTF-8, a line at a time, or what they are instead."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

UNDECODED = re.compile("[\udc80-\udcff]")  # bytes that are no UTF-8, as `surrogateescape` has them
UTF16 = ("\udcff\udcfe", "\udcfe\udcff")


class TextError(ValueError):
    """Bytes that are no text.

    Attributes:
        line: of the file, from 1.
    """

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def text_lines(path: Path) -> Generator[str, None, None]:
    r"""The lines of a file with their ends: `\n`, `\r\n` or `\r`; a byte-order mark is none of it.

    Raises:
        TextError: a line that is no UTF-8, or holds a NUL byte.
        OSError: a file that cannot be opened.
    """
    # Bytes that are no UTF-8 are kept until their line is known: a decoder reads ahead of it.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        for number, line in enumerate(file, start=1):
            if "\0" in line or (not line.isascii() and UNDECODED.search(line)):
                raise TextError(_what_is_wrong(line), number)
            yield line


def _what_is_wrong(line: str) -> str:
    if line.startswith(UTF16):
        return "found UTF-16, allowed: UTF-8, as `iconv -f UTF-16 -t UTF-8` makes it"
    if wrong := UNDECODED.search(line):
        return (
            f"found byte 0x{ord(wrong[0]) - 0xDC00:02x}, allowed: UTF-8, as "
            "`iconv -f LATIN1 -t UTF-8` makes it of older files"
        )
    return "found a NUL byte, allowed: text in UTF-8"
