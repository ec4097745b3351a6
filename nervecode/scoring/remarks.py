"""What keeps a calibration from meaning what was asked for, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from nervecode.scoring.mondrian import OWN, effective_size
from nervecode.scoring.percentiles import ALPHA

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


def remarks_on_weights(weights: Tensor | None, smallest: float) -> Iterator[str]:
    """Of (n,) importance weights, under which no p-value is below `smallest`."""
    if weights is not None:
        yield (
            f"the weights leave {effective_size(weights):.0f} of {len(weights)} inputs in effect, "
            f"and no p-value below {smallest:.2g}"
        )


def remarks_on_classes(predicted: Tensor | None) -> Iterator[str]:
    """Of (n,) predicted classes: which have too few inputs for p-values of their own."""
    counts = torch.bincount(torch.zeros(0).long() if predicted is None else predicted)
    few = torch.nonzero((counts > 0) & (counts < OWN)).flatten().tolist()
    if few:
        more = f" and {len(few) - SHOWN} more" if len(few) > SHOWN else ""
        yield (
            f"inputs predicted as class {', '.join(map(str, few[:SHOWN]))}{more} are compared with "
            f"all calibration inputs: p-values within a class need {OWN} of it"
        )


def remarks_on_selection(p_values: Tensor) -> Iterator[str]:
    """Of (m,) p-values of inputs to be added, by the calibration that they are added to."""
    if not (p_values <= USUAL).any() and (1 - USUAL) ** len(p_values) < CHANCE:
        yield (
            f"none of {len(p_values)} added inputs has a p-value of {USUAL} or less, as about "
            f"{USUAL * len(p_values):.0f} should: were flagged inputs left out? Then p-values get "
            "too small"
        )
