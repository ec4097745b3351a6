"""State dicts of a wrapped model: the base model's keys stay as they are in the bare model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def without_prefix(module: nn.Module, state: Any, prefix: str, metadata: Any) -> None:
    """Base parameters keep the keys they have in the bare model; the coders' follow behind."""

    def renamed(tail: str) -> str:
        if tail.startswith("model."):
            return tail.removeprefix("model.")
        return f"nervecode.{tail.removeprefix('coders.')}"

    _rename(state, prefix, renamed)


def with_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """The reverse; a checkpoint of the bare model loads too, and leaves the coders alone."""
    coders = module.coders
    assert isinstance(coders, nn.ModuleDict)

    def is_own(tail: str) -> bool:
        room, _, rest = tail.partition(".")  # a wrapper within has keys of its own there
        return room == "nervecode" and rest.split(".")[0] in coders

    def renamed(tail: str) -> str:
        return f"coders.{tail.removeprefix('nervecode.')}" if is_own(tail) else f"model.{tail}"

    if not any(is_own(key[len(prefix) :]) for key in state if key.startswith(prefix)):
        own = coders.state_dict()
        state.update({f"{prefix}nervecode.{key}": value for key, value in own.items()})
    _rename(state, prefix, renamed)


def _rename(state: dict[str, Any], prefix: str, renamed: Callable[[str], str]) -> None:
    """Rename what is below a prefix, at once: a model may have parts of the new names too."""
    below = [key for key in state if key.startswith(prefix)]
    moved = {prefix + renamed(key[len(prefix) :]): state.pop(key) for key in below}
    state.update(moved)
