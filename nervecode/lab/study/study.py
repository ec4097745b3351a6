"""Study: many settings under one protocol: running them, and what holds over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np

from nervecode.errors import NervecodeError, one_line
from nervecode.lab.detectors.registry import DETECTORS
from nervecode.lab.machine.progress import Progress
from nervecode.lab.results.statistics import Interval, Ranks, over_data_sets, ranks
from nervecode.lab.run.adopt import adopt
from nervecode.lab.schema import PRIMARY
from nervecode.lab.study.setting import Setting
from nervecode.lab.sweep.cells import Cell, add_cells
from nervecode.lab.sweep.launchers import Launcher, Pool, Task, local
from nervecode.lab.sweep.run import due_cells, run_cells

T = TypeVar("T")


def run_cells_of(
    cells: Sequence[Cell],
    outdir: Path,
    *,
    command: str,
    progress: Progress,
    folders: Sequence[Path] = (),
    launcher: Launcher = local,
    jobs: int = 1,
    ended: Callable[[str], object] = id,
) -> None:
    """Run the cells that are not done, as `nervecode sweep` does; those that are stay as they are.

    Args:
        cells: of one study, or of some of its settings.
        outdir: the folder of the study's sweep, which may hold other cells.
        command: that the metadata of adopted runs name.
        progress: told what is done.
        folders: a new cell begins with an equal training, where one lies in them or in `outdir`.
        launcher: what starts the cells.
        jobs: cells at a time.
        ended: called with the id of each cell that has ended.
    """

    def noting(tasks: Sequence[Task], pool: Pool) -> Iterator[tuple[Task, int]]:
        with closing(launcher(tasks, pool)) as running:  # type: ignore[type-var]
            for task, status in running:
                yield task, status
                ended(task.id)

    sweep = add_cells(outdir, cells)
    due = due_cells(sweep)
    for cell in due:
        root = cell.root(outdir)
        if not root.exists():
            adopt(cell.config, outdir, [outdir, *folders], command=command, name=root.name)
    if due:
        run_cells(sweep, due, noting, Pool(outdir, jobs), progress=progress, plots=False)


def attempt(names: Iterable[str], work: Callable[[str], T]) -> tuple[dict[str, T], dict[str, str]]:
    """Do each setting; one that fails is named with its reason and does not stop the others."""
    done, failed = {}, {}
    for name in names:
        try:
            done[name] = work(name)
        except NervecodeError as error:
            failed[name] = one_line(error)
    return done, failed


class Study:
    """Settings together. Averages run over the settings that have something near."""

    def __init__(self, settings: Sequence[Setting]) -> None:
        self.settings = list(settings)
        self.near = [setting for setting in self.settings if setting.has_near]

    @property
    def data_sets(self) -> list[str]:
        """Those of the settings that the averages run over, which share them."""
        return list(dict.fromkeys(setting.config.data.id for setting in self.near))

    @property
    def methods(self) -> list[str]:
        """Every method, best average first; those that lack a setting after the others."""
        names = list(dict.fromkeys(m for setting in self.settings for m in setting.scores))
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
        return [setting for setting in self.near if setting.has(method, group)]

    def missing(self, method: str) -> int:
        """In how many settings a method lacks the figure of some seed."""
        return sum(not setting.has(method) or method in setting.failures for setting in self.near)

    def average(self, method: str, group: str | None = None) -> float:
        """AUROC x100 over the settings in which the method ran; NaN where there is none."""
        means = [setting.mean(method, group) for setting in self.ran(method, group)]
        return float(np.mean(means)) if means else float("nan")

    def ahead(self, other: str, group: str | None = None, method: str = PRIMARY) -> Interval:
        """Points of a method above another, over the settings in which both ran.

        The interval is for data sets drawn anew, each with all its settings.
        """
        return over_data_sets(self._leads(other, group, method))

    def by_data_set(self, other: str, group: str | None = None) -> dict[str, float]:
        """Data set -> points of `nervecode` above a method, mean over its settings."""
        leads: dict[str, list[float]] = {}
        for name, lead in self._leads(other, group, PRIMARY):
            leads.setdefault(name, []).append(lead)
        return {name: float(np.mean(some)) for name, some in leads.items()}

    def ahead_equally(self, other: str, group: str | None = None) -> Interval:
        """As `ahead`, with every data set counted equally, however many settings it has."""
        return over_data_sets(self.by_data_set(other, group).items())

    def best(self, group: str | None = None, *, equally: bool = False) -> str:
        """The baseline that `nervecode` is least ahead of on average.

        Of those that ran everywhere, that is the one with the highest average; one that did not
        is compared where it ran, so that its absence helps nobody.

        Args:
            group: of OOD sets; else the score.
            equally: count every data set equally, not every setting.
        """
        ahead = self.ahead_equally if equally else self.ahead
        known = [m for m in self.rivals if self.ran(m, group)]
        return min(known, key=lambda m: ahead(m, group).mean)

    def ranks(self) -> Ranks:
        """Average ranks of `nervecode` and the baselines that ran everywhere."""
        methods = [PRIMARY, *self.complete]
        return ranks({m: [setting.mean(m) for setting in self.near] for m in methods})

    def _leads(self, other: str, group: str | None, method: str) -> list[tuple[str, float]]:
        """(data set, points of a method above another) of the settings in which both ran."""
        both = [setting for setting in self.ran(other, group) if setting.has(method, group)]
        return [(setting.config.data.id, setting.ahead(other, group, method)) for setting in both]
