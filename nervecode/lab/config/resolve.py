"""Configs: one strict schema, presets, overrides, and errors that read like a path.

A setting comes from the command line before the file, the file before the preset that it extends,
and the preset before the default. YAML is parsed here and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nervecode.errors import InputError, did_you_mean
from nervecode.lab.data.catalogue import locate
from nervecode.lab.schema import Config, problems

Origins = dict[str, str]


@dataclass(frozen=True)
class Resolved:
    """A config, and where each of its settings came from.

    Attributes:
        config: the validated config.
        origins: dotted key -> `command line`, a file, `preset NAME`; what is absent is a default.
        left_out: optional sets (`NAME?`) that are not on this machine.
    """

    config: Config
    origins: Origins
    left_out: tuple[str, ...] = ()


def resolve(
    *,
    preset: str | None = None,
    file: Path | None = None,
    overrides: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Resolved:
    """Read, merge and validate a config.

    Args:
        preset: a name from `presets()`; exclusive with `file`.
        file: a YAML file, which may name a preset under `extends`.
        overrides: `dotted.key=value` texts from the command line; values are YAML.
        settings: dotted key -> value of options with a name of their own (`--seeds`).

    Raises:
        InputError: every problem of the config, each on a line of its own.
    """
    if (preset is None) == (file is None):
        raise InputError("config: give exactly one of --preset NAME and --config FILE")
    layers = _from_preset(str(preset)) if file is None else _from_file(Path(file))
    layers.append(("command line", _command_line(overrides, settings or {})))
    merged: dict[str, Any] = {}
    origins: Origins = {}
    for origin, values in layers:
        _merge(merged, values, origin, origins, "")
    left_out = _settle_optional_sets(merged)
    return Resolved(validated(merged, origins, source=layers[-2][0]), origins, left_out)


def validated(
    values: Mapping[str, Any], origins: Origins | None = None, *, source: str = "config"
) -> Config:
    """A Config from plain values; all problems are raised at once.

    A setting that is missing has no origin: its error names `source`.
    """
    found = problems(values)
    if isinstance(found, Config):
        return found
    lines = []
    for key, text in found:
        origin = _origin(key, origins or {}) or source
        lines.append(f"{origin}: {key}: {text}" if key else f"{origin}: {text}")
    raise InputError("\n".join(lines))


def load_config(path: Path) -> Config:
    """A config file on its own, such as a run's `config.yaml`."""
    return resolve(file=path).config


def dump_config(config: Config, *, header: str) -> str:
    """The resolved config as YAML, opening with the command that runs it."""
    body = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return f"# {header}\n{body}"


def config_hash(config: Config, seed: int | None = None) -> str:
    """SHA-256 of the settings that results depend on (with a seed: the identity of a cell)."""
    aside = {"seeds", "device", "threads", "description", "cost"}
    values = config.model_dump(mode="json", exclude=aside)
    text = json.dumps([values, seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


# Presets


def presets() -> dict[str, Path]:
    """Preset name -> its file. A file in a folder is `folder/name`; plans of studies are none."""
    root = _configs_root()
    files = sorted(set(root.rglob("*.yaml")) - set((root / "study").rglob("*")))
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in files}


def preset_path(name: str) -> Path:
    """The file of a preset.

    Raises:
        InputError: an unknown name; the nearest one is shown.
    """
    known = presets()
    if name not in known:
        raise InputError(f"preset: unknown {name!r}; {did_you_mean(name, known)}")
    return known[name]


def preset_values(name: str) -> dict[str, Any]:
    """The settings of a preset as its files state them: neither validated nor with defaults."""
    values: dict[str, Any] = {}
    for origin, layer in _from_preset(name):
        _merge(values, layer, origin, {}, "")
    return values


@dataclass(frozen=True)
class PresetInfo:
    """A line of the list of presets."""

    name: str
    description: str
    data: str
    minutes: str
    memory: str


def preset_info() -> list[PresetInfo]:
    """Every preset with its data, and the minutes and memory that its file states."""
    found = []
    for name in presets():
        values = preset_values(name)
        cost = values.get("cost", {})
        found.append(
            PresetInfo(
                name,
                str(values.get("description", "")),
                str(values.get("data", {}).get("id", "")),
                str(cost.get("minutes", "?")),
                str(cost.get("memory", "?")),
            )
        )
    return found


def _configs_root() -> Path:
    """The presets: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[2]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def _from_preset(name: str) -> list[tuple[str, dict[str, Any]]]:
    values = read_yaml(preset_path(name))
    base = values.pop("extends", None)
    return [*(_from_preset(str(base)) if base else []), (f"preset {name}", values)]


def _from_file(path: Path) -> list[tuple[str, dict[str, Any]]]:
    values = read_yaml(path)
    base = values.pop("extends", None)
    return [*(_from_preset(str(base)) if base else []), (str(path), values)]


# YAML


MAX_BYTES = 128 << 10  # of a file: a config has some two thousand
MAX_ALIASES = 32


class _Loader(yaml.SafeLoader):
    """The safe loader, but `1e-3` is a number and a key given twice is an error.

    An alias may not stand within what another alias repeats, so that no small file grows large.
    """

    aliases = anchored = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            self.aliases += 1
            if self.anchored or self.aliases > MAX_ALIASES:
                raise yaml.YAMLError(f"more than {MAX_ALIASES} aliases, or one within another")
        repeated = getattr(event, "anchor", None) is not None
        self.anchored += repeated
        node = super().compose_node(parent, index)
        self.anchored -= repeated
        return node

    def construct_yaml_int(self, node: Any) -> int:
        number = int(super().construct_yaml_int(node))
        if abs(number) > 1 << 64:
            raise yaml.YAMLError(f"the number on line {node.start_mark.line + 1} is too large")
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)

_Loader.add_implicit_resolver(
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
    return loader.construct_mapping(node, deep=True)


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
        raise InputError(f"{path}: no such file") from None
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
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        message = " ".join(str(error).split())
        raise InputError(f"{source}: not valid YAML: {message}") from None


# Merging


def _settle_optional_sets(values: dict[str, Any]) -> tuple[str, ...]:
    """Settle `NAME?` in the lists of OOD sets: `NAME` where that set is here, else left out.

    A resolved config names what it uses, so that it means the same on another machine.
    """
    data = values.get("data")
    left_out: list[str] = []
    if not isinstance(data, dict):  # the schema will say so
        return ()
    for group in ("near", "far"):
        specs = data.get(group)
        if not isinstance(specs, list):
            continue
        settled = []
        for spec in specs:
            name = spec[:-1] if isinstance(spec, str) and spec.endswith("?") else None
            if name is None or locate(name).present:
                settled.append(name or spec)
            else:
                left_out.append(name)
        data[group] = settled
    return tuple(left_out)


def _command_line(overrides: Iterable[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in [*map(_override, overrides), *settings.items()]:
        node = values
        *parents, leaf = key.split(".")
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise InputError(f"command line: {key}: {parent} has already been given a value")
            node = child
        node[leaf] = value
    return values


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise InputError(f"command line: -o {text}: found no key, allowed: key=value")
    return key.strip(), parse_value(value, f"command line: -o {key}")


def _merge(
    into: dict[str, Any], values: Mapping[str, Any], origin: str, origins: Origins, prefix: str
) -> None:
    """Mappings merge key by key; anything else replaces what was there."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value, origin, origins, f"{path}.")
            continue
        into[key] = value
        origins[path] = origin
        if isinstance(value, dict):
            copy: dict[str, Any] = {}
            _merge(copy, value, origin, origins, f"{path}.")
            into[key] = copy


def _origin(key: str, origins: Origins) -> str | None:
    """Where the nearest setting at or above a dotted key came from."""
    parts = key.split(".")
    for end in range(len(parts), 0, -1):
        origin = origins.get(".".join(parts[:end]))
        if origin:
            return origin
    return None
