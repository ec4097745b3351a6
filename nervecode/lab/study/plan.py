"""Plan: the settings of a study by name, as a YAML file in `configs/study`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from nervecode.errors import InputError, did_you_mean
from nervecode.lab.config.presets import presets
from nervecode.lab.config.resolve import resolve
from nervecode.lab.config.yaml import read_yaml
from nervecode.lab.schema import Config, Section
from nervecode.lab.sweep.cells import Cell


class PlannedSetting(Section):
    """One setting: a preset with overrides, under a name of its own.

    Attributes:
        preset: of `configs/`.
        role: `development` where its figures were seen while the signal was chosen.
        overrides: as after `-o`.
        seeds: those of the plan where it has none of its own.
        note: what a reader of its figures should know.
    """

    preset: str
    role: str = "confirmation"
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    note: str = ""


class Plan(Section):
    """A study: its settings by name, and what all of them share.

    Attributes:
        excluded: baseline -> why some or all settings do without it.
        published: whether its page has published figures in the place of claims and ranks.
    """

    title: str
    published: bool = False
    seeds: tuple[int, ...] = (0, 1, 2)
    overrides: tuple[str, ...] = ()
    excluded: dict[str, str] = Field(default={})
    settings: dict[str, PlannedSetting]


def read_plan(path: Path) -> Plan:
    """The plan in a YAML file.

    Raises:
        InputError: unreadable, an unknown key or an unknown preset.
    """
    values = read_yaml(path)
    settings = values.get("settings") or {}
    short = {n: c if isinstance(c, dict) else {"preset": c} for n, c in settings.items()}
    try:
        plan = Plan.model_validate(values | {"settings": short})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: {key}: {first['msg']}") from None
    for name, cell in plan.settings.items():
        if cell.preset not in presets():
            allowed = did_you_mean(cell.preset, presets())
            raise InputError(f"{path}: settings.{name}: unknown preset {cell.preset!r}; {allowed}")
    return plan


def config_of(plan: Plan, name: str) -> Config:
    """The config of one setting."""
    cell = plan.settings[name]
    settings = {"seeds": list(cell.seeds or plan.seeds), "name": name}
    overrides = [*plan.overrides, *cell.overrides]
    return resolve(preset=cell.preset, overrides=overrides, settings=settings).config


def cells_of(plan: Plan, name: str) -> list[Cell]:
    """The cells of one setting, one a seed."""
    config = config_of(plan, name)
    return [Cell.of(config, seed, {}) for seed in config.seeds]
