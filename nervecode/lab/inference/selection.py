"""Selection: the flags of a whole scoring, with control of the false-discovery rate. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from nervecode.errors import InputError
from nervecode.lab.inference.scored import Scored
from nervecode.rates import largest_selected

Chunks = Callable[[], Iterable[Scored]]


def selected(chunks: Chunks, rate: float) -> Iterator[Scored]:
    """The same rows, flagged as Benjamini and Hochberg (1995) select them from all.

    As `nervecode.scoring.select`, in two passes and in memory for the different p-values alone.

    Args:
        chunks: gives all rows, twice the same.
        rate: the expected fraction of ID inputs among the selected is at most this.

    Raises:
        InputError: p-values for which this does not hold, see `unpooled`.
    """
    counts: Counter[float] = Counter()
    for chunk in unpooled(chunks()):
        values, numbers = np.unique(chunk.p_value[~np.isnan(chunk.p_value)], return_counts=True)
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    largest = largest_selected(counts, rate)
    for chunk in chunks():
        yield replace(chunk, flag=~(chunk.p_value > largest))  # what is not valid is flagged too


def unpooled(chunks: Iterable[Scored]) -> Iterator[Scored]:
    """The same rows, none of whose p-values within classes is pooled.

    ID inputs that are compared within their class have p <= t at a rate of t already; with those
    that are pooled it may come to 2 t. docs/mathematics.md, section 8.

    Raises:
        InputError: an input is compared with all classes, and others may not be.
    """
    for chunk in chunks:
        if chunk.pooled is not None and chunk.pooled.any():
            first = int(chunk.pooled.argmax())
            raise InputError(
                f"--fdr and --by-class: class {chunk.prediction[first]}, predicted for "
                f"{chunk.ids[first]}, has too few calibration inputs for p-values of its own, and "
                "among those of other classes its p-values may be too small; "
                "allowed: --fdr without --by-class"
            )
        yield chunk
