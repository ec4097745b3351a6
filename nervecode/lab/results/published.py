"""Published: what others report on the sets of a run, beside the run's own figures."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nervecode.lab.config.presets import preset_values, presets
from nervecode.lab.results.rows import Row, group_means
from nervecode.lab.results.table import Table
from nervecode.lab.schema import Config, SignalConfig

HEADER = ("method", "training", "near", "far", "near here", "far here")
SETS = ("id", "near", "far")

Means = Mapping[str, Mapping[str, Mapping[int, float]]]


def published_table(title: str, config: Config, rows: Sequence[Row]) -> Table | None:
    """The published figures for a config's ID set and OOD groups; None where there are none.

    They lie in a CSV file beside the preset that has the same sets.

    Args:
        title: what stands beside them.
        config: of the rows.
        rows: of one run, or of those of several seeds.
    """
    name = _preset_of(config)
    if name is None:
        return None
    with presets()[name].with_suffix(".csv").open(newline="", encoding="utf-8") as file:
        theirs = list(csv.DictReader(file))
    means, seeds = group_means(rows), len({row["seed"] for row in rows})
    training = "for the task" if any(map(_joint, config.signals.values())) else "plain"
    own = [[signal, training, "", "", *_here(signal, means)] for signal in config.signals]
    body = [[*[row[c] for c in HEADER[:4]], *_here(row["here"], means)] for row in theirs]
    shown = {*config.signals, *(row["here"] for row in theirs)}
    others = [m for m in dict.fromkeys([*config.bench.detectors, *means]) if m not in shown]
    unpublished = [[method, "plain", "", "", *_here(method, means)] for method in others]
    caption = (
        f"AUROC x100 of the near and of the far group; here: mean over {seeds} "
        f"seed{'s' * (seeds > 1)}. Published: configs/{name}.csv, which lacks those without a "
        "figure; docs/benchmarks.md says where the protocol differs. Methods that train for the "
        "task are no baselines."
    )
    title = f"{title} beside the published figures of {name}"
    return Table(title, list(HEADER), own + body + unpublished, caption=caption)


def _preset_of(config: Config) -> str | None:
    """The preset with published figures whose sets are those of a config."""
    ours = config.data.model_dump(mode="json")
    for name, path in presets().items():
        if path.with_suffix(".csv").is_file():
            data = preset_values(name)["data"]
            if all(_same(ours[key], data[key]) for key in SETS):
                return name
    return None


def _same(ours: Any, theirs: Any) -> bool:
    """Whether sets are equal; lists of pictures are, wherever they lie, by folder and name."""
    if isinstance(ours, str):
        return _anywhere(ours) == _anywhere(theirs)
    return [*map(_anywhere, ours)] == [*map(_anywhere, theirs)]


def _anywhere(spec: str) -> str | tuple[str, ...]:
    return Path(spec).parts[-2:] if spec.startswith("list:") else spec


def _joint(signal: SignalConfig) -> bool:
    """Whether the network was trained together with the codes of a signal."""
    return signal.recipe == "v0_1_1" and not signal.detach


def _here(method: str, means: Means) -> list[str]:
    """The near and the far figure of a method of the run, empty where it has none."""
    groups = means.get(method, {})
    by_group = [list(groups.get(group, {}).values()) for group in ("near", "far")]
    return [f"{100 * np.mean(values):.2f}" if values else "" for values in by_group]
