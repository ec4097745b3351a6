"""Order: whether the rows of a layer are in the order of the inputs, by one batch run backwards."""

from __future__ import annotations

import torch
from torch import Tensor

from nervecode.layers.checks.recorded_calls import RecordedCall
from nervecode.layers.watched import Watched

ALIKE = 0.01  # of the spread of the rows: what is nearer is the same but for rounding
APART = 0.05  # what is farther is another row
LOOKED_AT = 64  # rows that are looked for among all others


def reordered_layers(watched: Watched, call: RecordedCall) -> list[str]:
    """The layers whose rows are those of other inputs.

    A model that sorts its batch, as by length, and sorts its answer back has such layers. The model
    is called once more, with its arguments in reverse. Nothing is said where the model cannot run
    so, or where its own answer does not follow.
    """
    try:
        after = call.select(range(call.size)[::-1]).replay(watched)
        if not _follows(call.result.answer, after.answer):
            return []
        return [
            name
            for name, rows in call.result.rows.items()
            if name in after.rows and _are_of_others(rows, after.rows[name].flip(0))
        ]
    except Exception:  # of a batch that the model was never given: no error of the user's
        return []


def _follows(before: Tensor | None, after: Tensor | None) -> bool:
    """Whether one answer is that of the same inputs as another, in reverse."""
    if before is None or after is None:
        return False
    before, after = (answer.double().reshape(len(answer), -1) for answer in (before, after))
    near = ALIKE * spread(before)
    turned = (after.flip(0) - before).norm(dim=1) <= near
    return bool(turned.all() and ((after - before).norm(dim=1) > APART / ALIKE * near).any())


def _are_of_others(before: Tensor, after: Tensor) -> bool:
    """Whether rows (B, D) that are no longer where they were are all elsewhere among them."""
    scale = spread(before)
    moved = ((after - before).norm(dim=1) > APART * scale).nonzero()[:LOOKED_AT, 0]
    if not len(moved):
        return False
    distances = torch.cdist(after[moved], before, compute_mode="donot_use_mm_for_euclid_dist")
    return bool((distances.amin(dim=1) <= ALIKE * scale).all())


def spread(rows: Tensor) -> Tensor:
    """() the mean distance of rows from their mean."""
    distances: Tensor = torch.linalg.vector_norm(rows - rows.mean(0), dim=1)
    return distances.mean()
