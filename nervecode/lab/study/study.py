"""Study: many settings under one protocol: running them, and what holds over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from nervecode.errors import ArtifactError, NervecodeError
from nervecode.lab.detectors.registry import DETECTORS
from nervecode.lab.machine.progress import Progress
from nervecode.lab.results.statistics import Interval, Ranks, over_settings, ranks
from nervecode.lab.run.adopt import adopt
from nervecode.lab.run.directory import RunDir, list_runs
from nervecode.lab.schema import PRIMARY
from nervecode.lab.stages.bench import guarded, prepare, run_bench
from nervecode.lab.study.plan import Plan, config_of
from nervecode.lab.study.setting import Setting


def run_setting(
    plan: Plan,
    name: str,
    outdir: Path,
    *,
    command: str,
    progress: Progress,
    folders: Sequence[Path] = (),
) -> RunDir:
    """Run or resume one setting; its run is the newest of that name in `outdir`, or a new one.

    A new run begins with an equal training, where one lies in `outdir` or in `folders`.
    """
    config = config_of(plan, name)
    prepared = prepare(config)
    run = (
        latest(outdir, name)
        or adopt(config, outdir, [outdir, *folders], command=command)
        or RunDir.create(config, outdir, command=command)
    )
    with guarded(run, config):
        run_bench(run, prepared, progress=progress)
    return run


def latest(outdir: Path, name: str) -> RunDir | None:
    """The newest run of a setting."""
    runs = list_runs(outdir) if outdir.is_dir() else []
    found = [run for run in runs if run.meta["name"] == name]
    return max(found, key=lambda run: run.root.name) if found else None


def finished(plan: Plan, name: str, outdir: Path, *, command: str) -> Setting:
    """A setting that has been run as the plan says.

    Raises:
        ArtifactError: it has not, or not to its end.
    """
    cell, run, hint = plan.settings[name], latest(outdir, name), f"`{command} --only {name}`"
    if run is None:
        raise ArtifactError(f"not run yet; {hint} does it")
    if run.config != config_of(plan, name):
        raise ArtifactError(f"its run has another config; {hint} takes it up")
    if "tables" not in run.meta["stages"]:
        raise ArtifactError(f"not finished; {hint} goes on")
    return Setting.of(name, cell.role, run, cell.note)


def attempt(
    names: Iterable[str], work: Callable[[str], Setting]
) -> tuple[list[Setting], Mapping[str, str]]:
    """Do each setting; one that fails is named with its reason and does not stop the others."""
    done, failed = [], {}
    for name in names:
        try:
            done.append(work(name))
        except Exception as error:  # whatever it is, hours of other settings are waiting
            kind = "" if isinstance(error, NervecodeError) else f"{type(error).__name__}: "
            failed[name] = kind + " ".join(str(error).split())
    return done, failed


class Study:
    """Settings together. Averages run over the settings that have something near."""

    def __init__(self, settings: Sequence[Setting]) -> None:
        self.settings = list(settings)
        self.near = [one for one in self.settings if one.has_near]

    @property
    def methods(self) -> list[str]:
        """Every method, best average first; those that lack a setting after the others."""
        names = list(dict.fromkeys(m for one in self.settings for m in one.scores))
        return sorted(names, key=lambda m: (self.missing(m), -self.average(m)))

    @property
    def rivals(self) -> list[str]:
        """Every single baseline with a figure in some setting, in the order of `methods`."""
        return [m for m in self.methods if m in DETECTORS and self.ran(m)]

    @property
    def complete(self) -> list[str]:
        """The single baselines that ran in every setting, for every seed."""
        return [m for m in self.rivals if not self.missing(m)]

    def ran(self, method: str, group: str | None = None) -> list[Setting]:
        """The settings in which a method has a figure."""
        return [one for one in self.near if one.has(method, group)]

    def missing(self, method: str) -> int:
        """In how many settings a method lacks the figure of some seed."""
        return sum(not one.has(method) or method in one.failures for one in self.near)

    def average(self, method: str, group: str | None = None) -> float:
        """AUROC x100 over the settings in which the method ran; NaN where there is none."""
        ran = self.ran(method, group)
        return float(np.mean([one.mean(method, group) for one in ran])) if ran else float("nan")

    def ahead(self, method: str, group: str | None = None) -> Interval:
        """Points of `nervecode` above a method, over the settings in which that ran.

        The interval is over settings, drawn anew.
        """
        return over_settings([one.ahead(method, group) for one in self.ran(method, group)])

    def best(self, group: str | None = None) -> str:
        """The baseline that `nervecode` is least ahead of on average.

        Of those that ran everywhere, that is the one with the highest average; one that did not
        is compared where it ran, so that its absence helps nobody.
        """
        known = [m for m in self.rivals if self.ran(m, group)]
        return min(known, key=lambda m: self.ahead(m, group).mean)

    def ranks(self) -> Ranks:
        """Average ranks of `nervecode` and the baselines that ran everywhere."""
        methods = [PRIMARY, *self.complete]
        return ranks({m: [one.mean(m) for one in self.near] for m in methods})
