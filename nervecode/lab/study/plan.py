"""Plan: the settings of a study by name, as a YAML file in `configs/study`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from nervecode.errors import InputError, did_you_mean
from nervecode.lab.config.presets import presets
from nervecode.lab.config.resolve import resolve
from nervecode.lab.config.yaml import read_yaml
from nervecode.lab.schema import Config, Section
from nervecode.lab.sweep.cells import Cell

ROLES = ("development", "confirmation")


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
    role: Literal["development", "confirmation", "ablation", "joint", "trained", "reproduction"] = (
        "confirmation"
    )
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    note: str = ""


class Plan(Section):
    """A study: its settings by name, and what all of them share.

    Attributes:
        name: of its file.
        excluded: baseline -> why some or all settings do without it.
        published: whether its page has published figures in the place of claims and ranks.
    """

    name: str
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
        plan = Plan.model_validate(values | {"name": path.stem, "settings": short})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: {key}: {first['msg']}") from None
    for name, cell in plan.settings.items():
        if cell.preset not in presets():
            allowed = did_you_mean(cell.preset, presets())
            raise InputError(f"{path}: settings.{name}: unknown preset {cell.preset!r}; {allowed}")
    return plan


def check_apart(plans: Sequence[Plan]) -> None:
    """Refuse plans whose rows would lie in one file, or whose figures would have one name.

    Raises:
        InputError: names what two of them share.
    """
    for i, plan in enumerate(plans):
        for other in plans[:i]:
            if plan.name == other.name:
                raise InputError(f"found two plans named {plan.name!r}, allowed: one")
            for name in plan.settings.keys() & other.settings.keys():
                where = f"{other.name} and {plan.name}"
                raise InputError(f"found a setting {name!r} in {where}, allowed: in one of them")


def with_role(plan: Plan, role: str | None) -> Plan:
    """A plan without its settings of the other role, of development and confirmation.

    So nobody meets confirmation figures while the signal is still being chosen.
    """
    others = set(ROLES) - {role} if role else set()
    settings = {n: setting for n, setting in plan.settings.items() if setting.role not in others}
    return plan.model_copy(update={"settings": settings})


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
