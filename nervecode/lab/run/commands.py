"""The commands that messages name, so that they can be copied."""

from __future__ import annotations

import shlex

from nervecode.lab.models.user_code import is_trusted

TRUST = "--trust-code"
TRUSTING = (
    "bench", "calibrate", "export", "import-checkpoint", "score", "sweep", "train", "verify",
)  # fmt: skip
"""The commands that run code of the user where they are told to."""


def command(name: str, *arguments: object, trust: bool = False) -> str:
    """A command line of `nervecode`, quoted as a shell needs it.

    Args:
        name: of the command.
        arguments: as they follow it.
        trust: what it works on names code of the user, which is so as well where the command that
            is running was told to trust some.
    """
    needed = name in TRUSTING and (trust or is_trusted()) and TRUST not in arguments
    return shlex.join(["nervecode", name, *map(str, arguments), *[TRUST] * needed])
