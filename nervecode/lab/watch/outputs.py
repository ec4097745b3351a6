"""What `watch` writes, checked before anything is read."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

from nervecode.errors import InputError
from nervecode.files import check_new
from nervecode.lab.run.paths import check_outside_runs
from nervecode.lab.watch.tail import PIPE


def check_outputs(source: str, *, state: Path | None, metrics: Path | None) -> None:
    """Refuse outputs that cannot be written, and any that would replace another file of the job.

    Raises:
        InputError: no such folder, a folder, or two that are the same file, links resolved.
    """
    outputs = {"--state": state, "--metrics": metrics}
    named = {name: path for name, path in outputs.items() if path is not None}
    files = ({} if source == PIPE else {"the source": Path(source)}) | named
    for (first, one), (second, other) in combinations(files.items(), 2):
        if _are_same(one, other):
            raise InputError(
                f"{second} {other}: is the same file as {first}, which it would replace; "
                "allowed: a file of its own"
            )
    for name, path in named.items():
        check_new(path, what=name, force=True)
        check_outside_runs(path, name)


def _are_same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists() and os.path.samefile(one, other):
        return True
    return os.path.realpath(one) == os.path.realpath(other)
