"""restored: a block after which a model holds what it held before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

TABLES = frozenset(vars(nn.Module()))  # what each module has, whatever its class keeps
HELD = (list, dict, set)


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Within it, a forward may write to attributes and buffers of the model's modules.

    Tensors, lists, mappings and sets have their content back, and names their objects. Parameters
    are not looked at.
    """
    tables = [table for module in model.modules() for table in (vars(module), module._buffers)]
    known = [dict(table) for table in tables]
    values = [v for table in known for name, v in table.items() if name not in TABLES]
    tensors = [(v, v._version, v.clone()) for v in values if isinstance(v, Tensor)]
    held = [(v, v.copy()) for v in values if type(v) in HELD]
    try:
        yield
    finally:
        for tensor, version, content in tensors:
            if tensor._version != version:
                tensor.copy_(content)
        for value, items in held:
            _refill(value, items)
        for table, before in zip(tables, known, strict=True):
            _reset(table, before)


def _refill(value: Any, content: Any) -> None:
    """Give a list, mapping or set its content back, if it has another now."""
    now, before = (list(v.items() if isinstance(v, dict) else v) for v in (value, content))
    if len(now) == len(before) and all(map(_is_same, now, before)):
        return
    value.clear()
    value.extend(content) if isinstance(value, list) else value.update(content)


def _is_same(now: Any, before: Any) -> bool:
    if isinstance(now, tuple) and isinstance(before, tuple) and len(now) == len(before):
        return all(a is b for a, b in zip(now, before, strict=True))
    return now is before


def _reset(table: dict[str, Any], before: dict[str, Any]) -> None:
    """Give names their objects back; one by one, since other threads may use them."""
    for name in [name for name in table if name not in before]:
        del table[name]
    for name, value in before.items():
        if table.get(name) is not value:
            table[name] = value
