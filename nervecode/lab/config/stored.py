"""A config in a file: written, read back, hashed. No registry is asked: its names were known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nervecode.errors import InputError
from nervecode.lab.config.yaml import as_yaml, read_yaml
from nervecode.lab.schema import Config, Problem, problems


def load_config(path: Path) -> Config:
    """A config file that stands alone, such as a run's `config.yaml`.

    Raises:
        InputError: it cannot be read, or is no config.
    """
    return validated(read_yaml(path), source=str(path))


def validated(
    values: Mapping[str, Any],
    origins: Mapping[str, str] | None = None,
    *,
    source: str,
    unknown: Iterable[Problem] = (),
) -> Config:
    """A Config from plain values; all problems are raised at once.

    Args:
        values: the settings.
        origins: dotted key -> where the setting came from.
        source: what is named for a setting that came from nowhere, as one that is missing.
        unknown: names that no registry knows, to be told with all else. They say what is allowed
            more closely than types do, so that only they are told where both complain.

    Raises:
        InputError: every problem, each on a line of its own.
    """
    wrong, config = list(unknown), problems(values)
    if not isinstance(config, Config):
        keys = {key for key, _ in wrong}
        wrong = [*(problem for problem in config if problem[0] not in keys), *wrong]
    elif not wrong:
        return config
    lines = []
    for key, text in wrong:
        origin = _origin(key, origins or {}) or source
        lines.append(f"{origin}: {key}: {text}" if key else f"{origin}: {text}")
    raise InputError("\n".join(lines))


def dump_config(config: Config, *, header: str) -> str:
    """The resolved config as YAML, opening with the command that runs it."""
    return f"# {header}\n{as_yaml(config.model_dump(mode='json'))}"


def config_hash(config: Config, seed: int | None = None) -> str:
    """SHA-256 of the settings that results depend on (with a seed: the identity of a cell)."""
    aside = {"seeds", "device", "threads", "description", "cost"}
    values = config.model_dump(mode="json", exclude=aside)
    text = json.dumps([values, seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def dotted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sections within sections as dotted key -> value; an empty section is a value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = dotted(value) if isinstance(value, dict) else {}
        flat |= {f"{key}.{name}": leaf for name, leaf in inner.items()} or {key: value}
    return flat


def _origin(key: str, origins: Mapping[str, str]) -> str | None:
    """Where the nearest setting at or above a dotted key came from."""
    parts = key.split(".")
    for end in range(len(parts), 0, -1):
        origin = origins.get(".".join(parts[:end]))
        if origin:
            return origin
    return None
