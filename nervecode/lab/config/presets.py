"""Presets: configs by name, what each is about, and how settings are laid over each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nervecode.errors import InputError, did_you_mean
from nervecode.lab.config.yaml import read_yaml

Origins = dict[str, str]
"""Dotted key -> `command line`, a file, `preset NAME`; what is absent is a default."""
Layer = tuple[str, dict[str, Any]]
"""Settings, and where they come from."""


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
    for origin, layer in preset_layers(name):
        merge(values, layer, origin, {})
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
    infos = []
    for name in presets():
        values = preset_values(name)
        cost = values.get("cost", {})
        infos.append(
            PresetInfo(
                name,
                str(values.get("description", "")),
                str(values.get("data", {}).get("id", "")),
                str(cost.get("minutes", "?")),
                str(cost.get("memory", "?")),
            )
        )
    return infos


def preset_layers(name: str) -> list[Layer]:
    """A preset behind those that it extends."""
    return file_layers(preset_path(name), f"preset {name}")


def file_layers(path: Path, origin: str) -> list[Layer]:
    """The settings of a file behind those of the preset that it extends.

    Raises:
        InputError: it extends something else.
    """
    values = read_yaml(path)
    base = values.pop("extends", None)
    if base and str(base) not in (known := presets()):
        hint = did_you_mean(str(base), known)
        raise InputError(f"{path}: extends: found {base!r}, allowed: the name of a preset; {hint}")
    return [*(preset_layers(str(base)) if base else []), (origin, values)]


def merge(
    into: dict[str, Any],
    values: Mapping[str, Any],
    origin: str,
    origins: Origins,
    prefix: str = "",
) -> None:
    """Mappings merge key by key; anything else replaces what was there."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            origins[path] = origin  # what is wrong with a whole section came with its last setting
            merge(into[key], value, origin, origins, f"{path}.")
            continue
        into[key] = value
        origins[path] = origin
        if isinstance(value, dict):
            copy: dict[str, Any] = {}
            merge(copy, value, origin, origins, f"{path}.")
            into[key] = copy


def _configs_root() -> Path:
    """The presets: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[2]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"
