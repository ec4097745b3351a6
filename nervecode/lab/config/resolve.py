"""Resolving: from a preset or a file and a command line to one config.

A setting comes from the command line before the file, the file before the preset that it extends,
and the preset before the default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nervecode.errors import InputError
from nervecode.lab.config.ineffective import ineffective
from nervecode.lab.config.names import hidden_names, unknown_names
from nervecode.lab.config.presets import Origins, file_layers, merge, preset_layers
from nervecode.lab.config.stored import validated
from nervecode.lab.config.yaml import parse_value
from nervecode.lab.data.locate import locate
from nervecode.lab.schema import Config


@dataclass(frozen=True)
class Resolved:
    """A config, and where each of its settings came from.

    Attributes:
        config: the validated config.
        origins: dotted key -> `command line`, a file, `preset NAME`; what is absent is a default.
        left_out: optional sets (`NAME?`) that are not on this machine.
        remarks: what is to be told of names that several packages offer.
    """

    config: Config
    origins: Origins
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


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
    layers = (
        preset_layers(str(preset)) if file is None else file_layers(Path(file), origin=str(file))
    )
    layers.append(("command line", _command_line(overrides, settings or {})))
    merged: dict[str, Any] = {}
    origins: Origins = {}
    for origin, values in layers:
        merge(merged, values, origin, origins)
    left_out = _settle_optional_sets(merged)
    _drop_signals(merged)
    config = validated(merged, origins, source=layers[-2][0], unknown=unknown_names(merged))
    for key, reader in ineffective(config):  # a preset may have it for another choice
        if origins.get(key) == "command line":
            raise InputError(f"command line: {key}: has no effect here, allowed: {reader}")
    return Resolved(config, origins, left_out, tuple(hidden_names(merged)))


def _settle_optional_sets(values: dict[str, Any]) -> tuple[str, ...]:
    """Settle `NAME?` in the lists of OOD sets: `NAME` where that set is here, else left out.

    `held_out?` is `held_out` where classes are held out, and nothing elsewhere.

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
            if name == "held_out":
                settled += [name] * bool(data.get("hold_out"))
            elif name is None or locate(name).present:
                settled.append(name or spec)
            else:
                left_out.append(name)
        data[group] = settled
    return tuple(left_out)


def _drop_signals(values: dict[str, Any]) -> None:
    """Leave out the signals that are null: what a preset has, a file or a command line may drop."""
    signals = values.get("signals")
    if isinstance(signals, dict):
        values["signals"] = {name: signal for name, signal in signals.items() if signal is not None}


def _command_line(overrides: Iterable[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    given = list(map(_override, overrides))
    for key in settings.keys() & dict(given).keys():
        raise InputError(f"command line: {key}: found as -o and by its own option, allowed: one")
    for key, value in [*given, *settings.items()]:
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
    if key.strip() == "extends":
        raise InputError("command line: -o extends: is of a config file, allowed: --preset NAME")
    return key.strip(), parse_value(value, f"command line: -o {key}")
