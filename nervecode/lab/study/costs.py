"""Costs: what fitting and scoring with a signal takes, over bare forward passes; measured apart."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from nervecode.errors import ArtifactError
from nervecode.files import csv_text, write_text
from nervecode.lab.config.stored import config_hash
from nervecode.lab.schema import Config

COLUMNS = ("setting", "signal", "config", "fit", "score")


class Cost(NamedTuple):
    """Times over those of a bare forward pass on the same inputs.

    Attributes:
        config: hash of the config that was measured; for another, it tells nothing.
        fit: of a fit; None where the signal is learned with the network.
        score: of a forward pass that scores.
    """

    config: str
    fit: float | None
    score: float


def identity(config: Config) -> str:
    """The hash of a config that its costs are known by."""
    return config_hash(config)[:12]


Costs = Mapping[tuple[str, str], Cost]
"""(setting, signal) -> its cost."""


def write_costs(path: Path, costs: Costs) -> None:
    """Write the file of `read_costs`."""
    lines = [
        {"setting": setting, "signal": signal, "config": cost.config, "score": f"{cost.score:.3f}",
         "fit": "" if cost.fit is None else f"{cost.fit:.3f}"}
        for (setting, signal), cost in costs.items()
    ]  # fmt: skip
    write_text(path, csv_text(lines, COLUMNS))


def read_costs(path: Path) -> dict[tuple[str, str], Cost]:
    """The costs in a CSV file; none where there is no file.

    Raises:
        ArtifactError: it is damaged.
    """
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return {
                (line["setting"], line["signal"]): Cost(
                    line["config"],
                    float(line["fit"]) if line["fit"] else None,
                    float(line["score"]),
                )
                for line in csv.DictReader(file)
            }
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        hint = "python scripts/ablate_costs.py writes it again"
        raise ArtifactError(f"{path}: is damaged ({error!r}); {hint}") from None
