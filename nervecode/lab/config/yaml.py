"""YAML, read with suspicion: small files, no aliases within aliases, no key twice."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from nervecode.errors import InputError, one_line
from nervecode.files import absent

MAX_BYTES = 128 << 10  # of a file: a config has some two thousand
MAX_ALIASES = 32
DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
MAX_DEPTH = 64  # libyaml's reader ends the process where thousands of lists are nested

# libyaml's reader, ten times as quick, where PyYAML has it.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Safe):  # type: ignore[misc]
    """The safe loader, but `1e-3` is a number, `01` a text, and a key given twice an error."""

    def construct_yaml_int(self, node: Any) -> int | str:
        # Octal, hexadecimal, of base 60, `1_0` … in YAML 1.1; a class may have this name.
        if not DECIMAL.fullmatch(node.value):
            return str(node.value)
        number = int(super().construct_yaml_int(node))
        if abs(number) > 1 << 64:
            raise yaml.YAMLError(f"the number on line {node.start_mark.line + 1} is too large")
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


class _Dumper(yaml.SafeDumper):
    """The safe dumper, which quotes the text `1e-3`, since `_Loader` takes it for a number."""


for _part in (_Loader, _Dumper):
    _part.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?[eE][-+]?\d+$"),
        list("-+0123456789"),
    )


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if key in seen:
            raise yaml.YAMLError(f"key {key!r} is given twice, on lines {seen[key]} and {line}")
        seen[key] = line
    mapping: dict[Hashable, Any] = loader.construct_mapping(node, deep=True)
    return mapping


_Loader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """One mapping from a YAML file.

    Raises:
        InputError: the file is missing, unreadable, not YAML, or not a mapping.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path}: found {size:,} bytes, allowed: at most {MAX_BYTES:,}")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(absent(path)) from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, allowed: a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    values = parse_value(text, str(path))
    if not isinstance(values, dict):
        raise InputError(f"{path}: found {type(values).__name__}, allowed: a mapping of settings")
    return values


def parse_value(text: str, source: str) -> Any:
    """What a YAML text says.

    Raises:
        InputError: it is not YAML; the message begins with `source`.
    """
    try:
        _check(text)
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{source}: not valid YAML: {one_line(error)}") from None


def _check(text: str) -> None:
    """Refuse a text that is too deep, or whose aliases could make a small file large."""
    anchored: list[bool] = []  # of the collections that are open
    aliases = 0
    for event in yaml.parse(text, Loader=_Safe):
        if isinstance(event, yaml.CollectionStartEvent):
            anchored.append(event.anchor is not None)
            if len(anchored) > MAX_DEPTH:
                raise yaml.YAMLError(f"more than {MAX_DEPTH} lists or mappings within each other")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchored.pop()
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
            if any(anchored) or aliases > MAX_ALIASES:
                raise yaml.YAMLError(f"more than {MAX_ALIASES} aliases, or one within another")


def as_yaml(values: dict[str, Any]) -> str:
    """Plain values as a YAML text, in their order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
