"""State: how each cell of a sweep stands, read from its run and from nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nervecode.errors import ArtifactError, one_line
from nervecode.lab.results.rows import GROUPS, group_means, headlines, over_seeds, read_rows
from nervecode.lab.results.table import Table
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.verify import verify_run
from nervecode.lab.schema import PRIMARY
from nervecode.lab.sweep.cells import Cell

SCORE = "near+far"
MEASURES = (SCORE, *GROUPS)
FAILED = ("failed", "gate failed", "damaged")
UNFINISHED = ("waiting", "interrupted")


@dataclass(frozen=True)
class State:
    """How a cell stands.

    Attributes:
        word: `done`, `gate failed`, `failed`, `damaged`, `running`, `interrupted` or `waiting`.
        reason: of a failure.
        accuracy: on ID test, once it is known.
        figures: measure -> AUROC of the primary signal.
    """

    word: str
    reason: str = ""
    accuracy: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


def state_of(cell: Cell, folder: Path) -> State:
    """How a cell stands; it is done only if its run is of its config, whose files are whole."""
    root = cell.root(folder)
    if not (root / "meta.json").exists():
        return State("waiting")
    try:
        run = RunDir(root)
        if run.status not in ("complete", "gate_failed"):
            return _unfinished(run)
        if differing := cell.differing(run.config):
            why = f"its run is of other settings ({', '.join(differing)}); move it away"
            return State("damaged", why)
        faults = verify_run(run).faults
        if faults:
            return State("damaged", f"{faults[0].path} is {faults[0].kind}")
        accuracy = run.meta["gate"]["accuracy"].get(str(cell.seed))
        if run.status == "gate_failed":
            required = run.meta["gate"]["required"]
            return State("gate failed", f"accuracy below {required:g}", accuracy)
        return State("done", "", accuracy, _figures(run, cell.seed))
    except ArtifactError as error:
        return State("damaged", one_line(error))


def _unfinished(run: RunDir) -> State:
    if run.status == "failed":
        return State("failed", " ".join(str(run.meta.get("error")).split()))
    return State("running" if run.status == "running" else "interrupted")


def _figures(run: RunDir, seed: int) -> dict[str, float]:
    rows = [row for row in read_rows(run)["rows"] if row["method"] == PRIMARY]
    by_group = {SCORE: headlines(rows).get(PRIMARY, {}), **group_means(rows).get(PRIMARY, {})}
    return {name: float(seeds[seed]) for name, seeds in by_group.items() if seed in seeds}


def records(cells: Sequence[Cell], states: Sequence[State]) -> list[dict[str, Any]]:
    """A plain row a cell, the same whenever and wherever the cells were run."""
    keys = dict.fromkeys(key for cell in cells for key in cell.settings)
    return [
        {
            "cell": cell.id,
            "name": cell.config.name,
            **{key: cell.settings.get(key) for key in keys},
            "seed": cell.seed,
            "status": state.word,
            "reason": state.reason,
            "accuracy": state.accuracy,
            **{name: state.figures.get(name) for name in MEASURES},
        }
        for cell, state in zip(cells, states, strict=True)
    ]


def cell_table(cells: Sequence[Cell], states: Sequence[State]) -> Table:
    """Every cell, with what became of it."""
    body = [
        [
            cell.id,
            cell.label,
            str(cell.seed),
            state.word,
            _percent(state.accuracy),
            _percent(state.figures.get(SCORE)),
            state.reason,
        ]
        for cell, state in zip(cells, states, strict=True)
    ]
    header = ["cell", "config", "seed", "status", "accuracy", SCORE, "reason"]
    caption = f"accuracy in %; {SCORE}: AUROC x100 of {PRIMARY}"
    return Table(f"{len(cells)} cells", header, body, caption=caption)


def config_table(cells: Sequence[Cell], states: Sequence[State]) -> Table:
    """Every config over its seeds that are done: mean and standard deviation."""
    together: dict[str, list[State]] = {}
    for cell, state in zip(cells, states, strict=True):
        if state.word == "done":
            together.setdefault(cell.label, []).append(state)
    names = [n for n in MEASURES if any(n in s.figures for some in together.values() for s in some)]
    body = []
    for label, some in together.items():
        accuracy = [state.accuracy for state in some if state.accuracy is not None]
        figures = [[s.figures[name] for s in some if name in s.figures] for name in names]
        body.append([label, str(len(some)), _spread(accuracy), *map(_spread, figures)])
    caption = "mean ± standard deviation over the seeds that are done; AUROC x100 ↑, accuracy in %"
    return Table(
        f"{PRIMARY} by config", ["config", "seeds", "accuracy", *names], body, caption=caption
    )


def _spread(values: Sequence[float]) -> str:
    """Mean ± deviation, x100; of one value, which has no deviation, the value."""
    if not values:
        return ""
    mean, deviation = over_seeds(100 * value for value in values)
    return f"{mean:.2f} ± {deviation:.2f}" if len(values) > 1 else f"{mean:.2f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"
