"""Study: many settings under one protocol, and what can be claimed of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from nervecode.errors import InputError, NervecodeError, did_you_mean
from nervecode.lab.bench import guarded, prepare, run_bench
from nervecode.lab.config import presets, read_yaml, resolve
from nervecode.lab.detectors import DETECTORS
from nervecode.lab.files import read_npz
from nervecode.lab.progress import Progress
from nervecode.lab.rows import GROUPS, Row, group_means, headlines, read_rows
from nervecode.lab.run import RunDir, list_runs
from nervecode.lab.schema import PRIMARY, Config, Section
from nervecode.lab.statistics import Interval, Ranks, interval, paired_inputs, placements, ranks

Scores = dict[str, dict[int, float]]


class Cell(Section):
    """One setting of a study: a preset with overrides, under a name of its own."""

    preset: str
    role: str = "confirmation"
    overrides: tuple[str, ...] = ()


class Plan(Section):
    """A study: its settings by name, and what all of them share."""

    title: str
    seeds: tuple[int, ...] = (0, 1, 2)
    overrides: tuple[str, ...] = ()
    settings: dict[str, Cell]


def read_plan(path: Path) -> Plan:
    """The plan in a YAML file.

    Raises:
        InputError: unreadable, an unknown key or an unknown preset.
    """
    values = read_yaml(path)
    short = {n: c if isinstance(c, dict) else {"preset": c} for n, c in values["settings"].items()}
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
    settings = {"seeds": list(plan.seeds), "name": name}
    overrides = [*plan.overrides, *cell.overrides]
    return resolve(preset=cell.preset, overrides=overrides, settings=settings).config


def run_setting(plan: Plan, name: str, outdir: Path, *, command: str, progress: Progress) -> RunDir:
    """Run or resume one setting; its run is the newest of that name in `outdir`, or a new one."""
    config = config_of(plan, name)
    prepared = prepare(config)
    run = latest(outdir, name) or RunDir.create(config, outdir, command=command)

    def work() -> None:
        if run.config != config:
            run.replace_config(config)
        run_bench(run, prepared, allow_low_accuracy=False, progress=progress)

    guarded(run, work)
    return run


def latest(outdir: Path, name: str) -> RunDir | None:
    """The newest run of a setting."""
    found = (
        [run for run in list_runs(outdir) if run.meta["name"] == name] if outdir.is_dir() else []
    )
    return max(found, key=lambda run: run.root.name) if found else None


@dataclass(frozen=True)
class Setting:
    """A finished setting.

    Attributes:
        name: in the plan.
        role: `development` where its figures were seen while the signal was chosen.
        run: its run.
    """

    name: str
    role: str
    run: RunDir
    rows: list[Row] = field(repr=False)

    @classmethod
    def of(cls, name: str, role: str, run: RunDir) -> Setting:
        """Read the rows of a run.

        Raises:
            ArtifactError: the bench has not come to its end.
            NervecodeError: the accuracy gate was not passed, so that there are no figures.
        """
        rows = read_rows(run)["rows"]
        if any(row["status"] == "not_reported" for row in rows):
            raise NervecodeError(f"accuracy gate not passed: {run.meta['gate']['accuracy']}")
        return cls(name, role, run, rows)

    @cached_property
    def groups(self) -> dict[str, dict[str, dict[int, float]]]:
        """Method -> group -> seed -> AUROC."""
        return group_means(self.rows)

    @cached_property
    def scores(self) -> Scores:
        """Method -> seed -> mean of near and far; of far alone where nothing is near."""
        both = headlines(self.rows)
        return both or {m: groups["far"] for m, groups in self.groups.items() if "far" in groups}

    @property
    def has_near(self) -> bool:
        """Whether anything near is in it; only then does it count in the averages."""
        return any(row["group"] == "near" for row in self.rows)

    @property
    def accuracy(self) -> float:
        """Mean ID test accuracy over seeds."""
        return float(np.mean([float(a) for a in self.run.meta["gate"]["accuracy"].values()]))

    @property
    def failures(self) -> dict[str, str]:
        """Baseline -> why it has no figure for some seed."""
        return {row["method"]: row["reason"] for row in self.rows if row["status"] == "failed"}

    def mean(self, method: str, group: str | None = None) -> float:
        """AUROC x100 of a method, mean over seeds; of near and far together without a group."""
        seeds = self.scores[method] if group is None else self.groups[method][group]
        return 100 * float(np.mean(list(seeds.values())))

    def std(self, method: str) -> float:
        """Its standard deviation over seeds."""
        values = list(self.scores[method].values())
        return 100 * float(np.std(values, ddof=1)) if len(values) > 1 else 0.0

    def best(self, group: str | None = None) -> str:
        """The best single baseline."""
        return max(self.baselines, key=lambda m: self.mean(m, group))

    @property
    def baselines(self) -> list[str]:
        """The single baselines that ran for every seed."""
        return [m for m in self.scores if m in DETECTORS and m not in self.failures]

    def lead(self, other: str) -> Interval:
        """AUROC points of `nervecode` above another method, with the interval over inputs."""
        draws = np.mean([self._draws(seed, other) for seed in self.scores[PRIMARY]], axis=0)
        return interval(100 * draws)

    def _draws(self, seed: int, other: str) -> np.ndarray:
        sets = {row["ood"]: row["group"] for row in self.rows if row["group"] != "shift"}
        counted = ("near", "far") if self.has_near else ("far",)
        members = {g: [s for s, group in sets.items() if group == g] for g in counted}
        weights = {s: 1 / len(counted) / len(members[g]) for g in counted for s in members[g]}
        inside = read_npz(self.run.verified(self.run.scores(seed, "id_test")))
        parts: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for name in weights:
            outside = read_npz(self.run.verified(self.run.scores(seed, f"ood_{name}")))
            for part, method in zip(parts, (PRIMARY, other), strict=True):
                part[name] = placements(inside[method], outside[method])
        return paired_inputs(*parts, weights, seed=seed)


@dataclass(frozen=True)
class Claim:
    """One target of a study: what is asked, what was found, and whether that is enough."""

    text: str
    found: str
    reached: bool


class Study:
    """Settings together. Averages run over the settings that have something near."""

    def __init__(self, settings: Sequence[Setting]) -> None:
        self.settings = list(settings)
        self.near = [one for one in self.settings if one.has_near]

    @property
    def methods(self) -> list[str]:
        """Every method, best average first; those that failed somewhere after the others."""
        names = list(dict.fromkeys(m for one in self.settings for m in one.scores))
        return sorted(names, key=lambda m: (self.missing(m), -self.average(m)))

    def missing(self, method: str) -> int:
        """In how many settings a method has no figure."""
        return sum(method not in one.scores or method in one.failures for one in self.near)

    def average(self, method: str, group: str | None = None) -> float:
        """AUROC x100 over the settings in which the method ran."""
        ran = [one for one in self.near if method in one.scores and method not in one.failures]
        kept = [one for one in ran if group is None or group in one.groups[method]]
        return float(np.mean([one.mean(method, group) for one in kept])) if kept else float("nan")

    @property
    def baselines(self) -> list[str]:
        """Single baselines that ran in every setting, best average first."""
        return [m for m in self.methods if m in DETECTORS and not self.missing(m)]

    def best(self, group: str | None = None) -> str:
        """The baseline with the highest average."""
        return max(self.baselines, key=lambda m: self.average(m, group))

    def ranks(self) -> Ranks:
        """Average ranks of `nervecode` and the baselines that ran everywhere."""
        methods = [PRIMARY, *self.baselines]
        return ranks({m: [one.mean(m) for one in self.near] for m in methods})

    def claims(self) -> list[Claim]:
        """The targets that the signal is held to."""
        leads = [one.mean(PRIMARY) - one.mean(one.best()) for one in self.near]
        wins = 100 * float(np.mean([lead > 0 for lead in leads]))
        ahead = self.average(PRIMARY) - self.average(self.best())
        gaps = {
            one.name: one.mean(PRIMARY, "near") - one.mean(one.best("near"), "near")
            for one in self.near
        }
        worst = min(gaps, key=lambda name: gaps[name])
        firsts = {g: self.average(PRIMARY, g) - self.average(self.best(g), g) for g in GROUPS}
        members = ("energy", "mahalanobis", PRIMARY)
        combo = self.average("combo_id_zscore_equal") - max(map(self.average, members))
        return [
            Claim("beats the best single baseline of the setting in at least 80 % of the settings",
                  f"{wins:.0f} % of {len(leads)}", wins >= 80),
            Claim("its average is at least 1.5 points above the best baseline's",
                  f"{ahead:+.2f} to {self.best()}", ahead >= 1.5),
            Claim("near-OOD alone is first on average",
                  f"{firsts['near']:+.2f} to {self.best('near')}", firsts["near"] > 0),
            Claim("near-OOD is nowhere more than 1 point behind the setting's best baseline",
                  f"{gaps[worst]:+.2f} on {worst}; {sum(g < -1 for g in gaps.values())} of "
                  f"{len(gaps)} settings are further behind", gaps[worst] >= -1),
            Claim("first on shift sets on average",
                  f"{firsts['shift']:+.2f} to {self.best('shift')}", firsts["shift"] > 0),
            Claim("combo_id_zscore_equal is at least as good as its best member on average",
                  f"{combo:+.2f}", combo >= 0),
        ]  # fmt: skip


def attempt(
    names: Iterable[str], work: Callable[[str], Setting]
) -> tuple[list[Setting], Mapping[str, str]]:
    """Do each setting; one that fails is named with its reason and does not stop the others."""
    done, failed = [], {}
    for name in names:
        try:
            done.append(work(name))
        except NervecodeError as error:
            failed[name] = " ".join(str(error).split())
    return done, failed
