"""Inputs to score, read as a whole: what the tests of readers look at."""

from __future__ import annotations

from typing import Any

import torch

from nervecode.lab.inference.open import open_inputs
from nervecode.lab.inference.source import Inputs


def read_inputs(source: str, shape: tuple[int, ...], **options: Any) -> Inputs:
    """Every batch of a source, joined."""
    found = open_inputs(source, shape, **options)
    batches = [batch for unit in range(found.units) for batch in found.read(unit)]
    return Inputs(
        torch.cat([batch.inputs for batch in batches]),
        [name for batch in batches for name in batch.ids],
        tuple(name for batch in batches for name in batch.skipped),
    )
