"""Validation: a config from plain values, or all that is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from nervecode.errors import did_you_mean
from nervecode.lab.schema.bench import BenchConfig
from nervecode.lab.schema.config import Config, CostConfig
from nervecode.lab.schema.data import DataConfig
from nervecode.lab.schema.model import ModelConfig
from nervecode.lab.schema.section import Section
from nervecode.lab.schema.signals import SignalConfig
from nervecode.lab.schema.train import TrainConfig

Problem = tuple[str, str]
"""A dotted key, and what was found there and what is allowed."""

# What the reader of a YAML file calls pydantic's types, and the one pattern of this schema.
YAML_TYPES = {
    "string_type": "a text",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "string_pattern_mismatch": "at most 64 letters (a to z), digits, '.', '_' and '-'",
}


SECTIONS: dict[str, type[Section]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "train": TrainConfig,
    "signals": SignalConfig,
    "bench": BenchConfig,
    "cost": CostConfig,
}


def problems(values: Mapping[str, Any]) -> Config | list[Problem]:
    """A Config, or every problem of its types and ranges."""
    try:
        return Config.model_validate(dict(values))
    except ValidationError as error:
        return [_problem(problem) for problem in error.errors()]


def first_problem(error: ValidationError) -> str:
    """Where the first problem of a document is, and what it is: `stages.train: Field required`."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "document"
    return f"{where}: {first['msg']}"


def _problem(error: Any) -> Problem:
    key = ".".join(str(part) for part in error["loc"])
    given = error.get("input")
    if error["type"] == "extra_forbidden":
        leaf = str(error["loc"][-1])
        homes = [
            f"{name}.{leaf}" for name, section in SECTIONS.items() if leaf in section.model_fields
        ]
        if len(error["loc"]) == 1 and homes:
            return key, f"unknown key; did you mean {' or '.join(map(repr, homes))}?"
        return key, f"unknown key; {did_you_mean(leaf, _fields_at(error['loc'][:-1]))}"
    if error["type"] == "missing":
        return key, "is missing, and it has no default"
    text = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":
        return key, text
    if error["type"] == "string_type" and isinstance(given, dict) and [*given.values()] == [None]:
        return key, f"found '{next(iter(given))}:', allowed: a text that goes on behind the colon"
    allowed = YAML_TYPES.get(error["type"], text.removeprefix("Input should be "))
    return key, f"found {given!r}, allowed: {allowed}"


def _fields_at(location: tuple[Any, ...]) -> list[str]:
    """The keys that a section allows; signals are named by the user."""
    section = SECTIONS.get(str(location[0]), Config) if location else Config
    return list(section.model_fields)
