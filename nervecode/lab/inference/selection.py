"""Selection: the flags of a whole scoring, with control of the false-discovery rate. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from nervecode.errors import InputError
from nervecode.lab.inference.scored import Scored

Chunks = Callable[[], Iterable[Scored]]


def selected(chunks: Chunks, rate: float) -> Iterator[Scored]:
    """The same rows, flagged as Benjamini and Hochberg (1995) select them from all.

    As `nervecode.scoring.select`, in two passes and in memory for the different p-values alone.

    Args:
        chunks: gives all rows, twice the same.
        rate: the expected fraction of ID inputs among the selected is at most this.
    """
    counts: Counter[float] = Counter()
    for chunk in chunks():
        values, numbers = np.unique(chunk.p_value[~np.isnan(chunk.p_value)], return_counts=True)
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    threshold = threshold_of(counts, rate)
    for chunk in chunks():
        yield replace(chunk, flag=~(chunk.p_value > threshold))  # what is not valid is flagged too


def threshold_of(counts: Counter[float], rate: float) -> float:
    """The largest p-value that is selected, from how often each of them comes; 0 for none."""
    total, rank, threshold = counts.total(), 0, 0.0
    for p_value in sorted(counts):
        rank += counts[p_value]
        if p_value * total <= rate * rank:
            threshold = p_value
    return threshold


def check_rate(rate: float) -> None:
    """Refuse a false-discovery rate outside (0, 1)."""
    if not 0 < rate < 1:
        raise InputError(f"--fdr: found {rate}, allowed: between 0 and 1")
