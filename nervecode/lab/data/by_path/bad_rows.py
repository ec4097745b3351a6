"""BadRows: rows of a file that cannot be read, which end the reading or are left out by name."""

from __future__ import annotations

from dataclasses import dataclass, field

from nervecode.errors import InputError


@dataclass(frozen=True)
class BadRows:
    """What happens where a row cannot be read.

    Attributes:
        left_out: reading goes on, and whoever reads leaves these rows out.
        hint: ends the message where it does not.
        reasons: row -> why it is left out, the first thing that is wrong with it.
    """

    left_out: bool = False
    hint: str = ""
    reasons: dict[int, str] = field(default_factory=dict)

    def add(self, row: int, reason: str) -> None:
        """Tell of a row.

        Raises:
            InputError: no row is to be left out.
        """
        if not self.left_out:
            raise InputError(reason + self.hint)
        self.reasons.setdefault(row, reason)
