"""Made-up settings, whose records were written by no run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nervecode.lab.config.resolve import resolve
from nervecode.lab.study.records import CellRecord
from nervecode.lab.study.setting import Setting
from nervecode.lab.sweep.cells import Cell

Scores = Mapping[str, Sequence[float] | Mapping[str, Sequence[float]]]
SIZES = {"id_train": 500, "id_calibration": 100, "id_test": 200}


def made(
    name: str,
    preset: str,
    *overrides: str,
    role: str = "joint",
    accuracy: Sequence[float] = (99.0, 98.0),
    ece: Sequence[float | None] = (),
    scores: Scores | None = None,
    planned: int | None = None,
) -> Setting:
    """A setting with a record a seed.

    Args:
        name: of the setting.
        preset: whose config it has.
        overrides: of that.
        role: of the setting.
        accuracy: a figure a seed, in percent.
        ece: likewise.
        scores: method -> AUROC a seed on one near and one far set; or OOD group -> that.
        planned: how many seeds there should be.
    """
    config = resolve(preset=preset, overrides=list(overrides), settings={"name": name}).config
    records = []
    for seed, figure in enumerate(accuracy):
        rows = [
            {"seed": seed, "ood": f"{group}_set", "group": group, "method": method, "reason": "",
             "status": "ok", "auroc": values[seed], "aupr_out": 0.5, "fpr95": 1.0}
            for method, given in (scores or {"nervecode": (0.9, 0.8)}).items()
            for group, values in (
                given if isinstance(given, Mapping) else dict.fromkeys(("near", "far"), given)
            ).items()
        ]  # fmt: skip
        methods = dict.fromkeys(row["method"] for row in rows if row["method"] != "nervecode")
        records.append(CellRecord(
            seed, Cell.of(config, seed, {}).id, "1.0", "0123456789", "2026-01-01T00:00:00+00:00",
            figure, ece[seed] if ece else None, SIZES, rows,
            {method: {"score": 0.5, "near": 1.0} for method in methods},
        ))  # fmt: skip
    absent = {seed: "waiting" for seed in range(len(accuracy), planned or 0)}
    return Setting(name, role, config, records, absent=absent)
