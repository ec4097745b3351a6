"""What keeps a calibration from meaning what was asked for, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from nervecode.scoring.false_alarms import excess
from nervecode.scoring.mondrian import OWN, effective_size
from nervecode.scoring.percentiles import ALPHA

ALIKE = 1e-9  # of the size of readings: what differs by less is the same
TWINS = 0.05  # the share of inputs to be added that may be in the calibration, as duplicates are
SHOWN = 10  # classes by name
USUAL = 0.05  # p-values up to here, which ID inputs have at about this rate
CHANCE = 1e-3  # that there are none of them among inputs that nobody selected


def remarks_on_number(n: int, total: int) -> Iterator[str]:
    """Of `total` inputs of which n are finite."""
    if n < total:
        yield f"{total - n} of {total} inputs have NaN or infinity, and are left out"
    smallest = 1 / (n + 1)
    if smallest > ALPHA:
        yield (
            f"{n} inputs give no p-value below 1/{n + 1} = {smallest:.2g}, so that "
            f"a smaller alpha flags nothing; {math.ceil(1 / ALPHA) - 1} serve alpha {ALPHA}"
        )


def remarks_on_constants(layers: Mapping[str, Tensor]) -> Iterator[str]:
    """Of the (n, ...) readings of each layer, where all n inputs read alike in all of them."""
    columns = torch.cat([rows.double() for rows in layers.values()], dim=1)
    low, high = columns.amin(0), columns.amax(0)
    if len(columns) > 1 and bool((high - low <= ALIKE * (1 + high.abs())).all()):
        yield (
            f"all {len(columns)} inputs read alike in every layer, as where activations are "
            "constant: no score tells any input from another"
        )


def remarks_on_weights(weights: Tensor | None, smallest: float) -> Iterator[str]:
    """Of (n,) importance weights, under which no p-value is below `smallest`."""
    if weights is not None:
        yield (
            f"the weights leave {effective_size(weights):.0f} of {len(weights)} inputs in effect, "
            f"and no p-value below {smallest:.2g}"
        )


def remarks_on_classes(predicted: Tensor | None) -> Iterator[str]:
    """Of (n,) predicted classes: which have too few inputs for p-values of their own."""
    if predicted is None:
        return
    counts = torch.bincount(predicted)
    few = torch.nonzero((counts > 0) & (counts < OWN)).flatten().tolist()
    if few:
        more = f" and {len(few) - SHOWN} more" if len(few) > SHOWN else ""
        yield (
            f"inputs predicted as class {', '.join(map(str, few[:SHOWN]))}{more}, counted from 0, "
            "are compared with all calibration inputs: p-values within a class need "
            f"{OWN} of it"
        )


def remarks_on_selection(p_values: Tensor, n: int) -> Iterator[str]:
    """Of (m,) p-values of inputs to be added, by the n inputs that they are added to."""
    flagged = int((p_values <= USUAL).sum())
    if excess(len(p_values), flagged, n, USUAL, chance=CHANCE):
        yield (
            f"{flagged} of {len(p_values)} added inputs have a p-value of {USUAL} or less, as "
            f"about {USUAL * len(p_values):.0f} should: are they ID? What was OOD is then no "
            "longer flagged, and the promise is not for inputs like those of before"
        )
    if not (p_values <= USUAL).any() and (1 - USUAL) ** len(p_values) < CHANCE:
        yield (
            f"none of {len(p_values)} added inputs has a p-value of {USUAL} or less, as about "
            f"{USUAL * len(p_values):.0f} should: were flagged inputs left out? Then p-values get "
            "too small"
        )


def remarks_on_twins(share: float) -> Iterator[str]:
    """Of the share of inputs to be added whose readings are those of a calibration input."""
    if share > TWINS:
        yield (
            f"{share:.0%} of the added inputs seem to be in the calibration already: they add no "
            "knowledge, and the promise is that of fewer inputs than are counted"
        )
