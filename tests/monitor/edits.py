"""Edits of a saved state, as by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def edited(*path: str | int, value: object) -> Callable[[Any], None]:
    """An edit that puts a value where a path of keys leads."""

    def edit(state: Any) -> None:
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = value

    return edit
