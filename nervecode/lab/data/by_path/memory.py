"""How much of a set by path is held in memory."""

from __future__ import annotations

from pathlib import Path

from nervecode.errors import InputError

MAX_BYTES = 4 << 30  # half a billion numbers of a table


def check_size(source: Path | str, size: int, *, instead: str) -> None:
    """Refuse what takes more than `MAX_BYTES`.

    Args:
        source: of the data, in messages.
        size: in bytes.
        instead: what takes less, beside a part of it.

    Raises:
        InputError: it takes more.
    """
    if size > MAX_BYTES:
        raise InputError(
            f"{source}: takes {size:,} bytes in memory, allowed: {MAX_BYTES:,}; a part of it, or "
            f"{instead}"
        )
