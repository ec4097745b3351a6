"""Codebooks: which learned codebooks have collapsed, from the diagnostics of a run."""

from __future__ import annotations

import csv
from collections.abc import Iterable

from nervecode.lab.run.directory import RunDir

SHARE = 1 / 8  # of its codes that a codebook uses at most once it is called collapsed


def collapsed(run: RunDir, seeds: Iterable[int]) -> dict[str, str]:
    """Signal -> what is left of its learned codebooks, where one uses an eighth of its codes.

    Raises:
        ArtifactError: a file of diagnostics is missing or damaged.
    """
    shares: dict[str, list[tuple[float, str, int]]] = {}
    for seed in seeds:
        path = run.paths.diagnostics(seed)
        if run.recorded(path):
            for name, layer, share in _last_epoch(run.verified(path).read_text(encoding="utf-8")):
                shares.setdefault(name, []).append((share, layer, seed))
    return {
        name: _words(found, run.config.signals[name].num_codes)
        for name, found in shares.items()
        if name in run.config.signals and min(found)[0] <= SHARE
    }


def _last_epoch(text: str) -> list[tuple[str, str, float]]:
    """(signal, layer, share of its codes in use) of the last epoch."""
    rows = list(csv.DictReader(text.splitlines()))
    last = max((int(row["epoch"]) for row in rows), default=0)
    named = [(row["layer"].partition(":"), row) for row in rows if int(row["epoch"]) == last]
    return [(name, layer, float(row["utilisation"])) for (name, _, layer), row in named]


def _words(shares: list[tuple[float, str, int]], num_codes: int) -> str:
    share, layer, seed = min(shares)
    low = sum(found <= SHARE for found, _, _ in shares)
    return (
        f"{round(share * num_codes)} of {num_codes} codes in use at {layer}, seed {seed}; an "
        f"eighth or fewer in {low} of {len(shares)} codebooks"
    )
