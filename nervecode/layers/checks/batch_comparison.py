"""BatchComparison: what layers read of the same inputs in two batches, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nervecode.layers.batch.padded_ends import PaddedEnd, padded_ends
from nervecode.layers.checks.recorded_calls import CallResult, RecordedCall
from nervecode.layers.checks.row_order import ALIKE, spread
from nervecode.layers.watched import Watched, eager

LOOKED_AT = 4  # inputs of a batch
ROUNDING = 0.005  # of the length of a vector, by which another kernel may move it
ROUNDING_16 = 0.05  # the same of float16 and bfloat16
OTHERS = 1001  # random numbers after which a model draws others
NEWS = 0.1  # by which a p-value has to move
NOISE = 3  # times what copies of an input differ by


class Dependence(NamedTuple):
    """What changes where an input runs with other inputs, or with other padding.

    Attributes:
        layers: the layers that say something else of it.
        answer: whether the model answers something else; None where that is not known.
    """

    layers: tuple[str, ...] = ()
    answer: bool | None = False


class BatchComparison:
    """Compares what is said of inputs in one call and in another.

    Args:
        watched: whose layers.
        readings: layer -> `readings` of all calibration inputs.
        call: a call of several inputs.
    """

    def __init__(
        self, watched: Watched, readings: Mapping[str, Tensor], call: RecordedCall
    ) -> None:
        self.watched, self.call = watched, call
        self._known = {n: known[:, 0].double().cpu().sort().values for n, known in readings.items()}
        self._rounding = ROUNDING_16 if _is_of_16_bits(watched, call) else ROUNDING
        self.ends = padded_ends(call.unshared, call.size)

    def without_others(self) -> Dependence:
        """What moves where inputs of the batch are alone.

        Of `LOOKED_AT`, as different in length as can be seen. Each runs with a copy of itself: many
        models take no batch of one.
        """
        most = max(self.ends, key=lambda end: end.variety, default=None)
        return together([self._of(i, self._pair(i)) for i in self._some(most)])

    def without_padding(self, end: PaddedEnd) -> Dependence:
        """What moves where such inputs are without what looks like padding at one end."""
        real = {i: end.places - int(end.counts[i]) for i in self._some(end)}
        calls = {i: self._cut(i, end, n) for i, n in real.items() if 0 < n < end.places}
        return together([self._of(i, call, last=end.leads) for i, call in calls.items()])

    def from_singles(self, singles: Sequence[RecordedCall]) -> Dependence:
        """What moves from calls of one input each, which the batch has put together."""
        return together([self._step(i, single.result) for i, single in enumerate(singles)])

    def _some(self, end: PaddedEnd | None) -> list[int]:
        """The inputs that are looked at."""
        order = list(range(self.call.size)) if end is None else end.counts.argsort().tolist()
        last, most = len(order) - 1, min(LOOKED_AT, len(order))
        return sorted({order[round(k * last / max(1, most - 1))] for k in range(most)})

    def _pair(self, number: int) -> RecordedCall:
        return self.call.select([number, number])

    def _cut(self, number: int, end: PaddedEnd, length: int) -> RecordedCall:
        return self._pair(number).changed(lambda value: end.cut(value, 2, length), 2)

    def _of(self, number: int, call: RecordedCall, *, last: bool = False) -> Dependence:
        """What moves in another call, by more than where that is made once more.

        Where it has fewer places, those are the first ones of the batch, or its `last`.
        """
        after = call.replay(self.watched)
        step = self._step(number, after, last=last)
        if step.layers:  # a model may draw random numbers
            after = after.with_repeat(call.replay(self.watched, drawn=OTHERS))
            step = self._step(number, after, last=last)
        return step

    def _step(self, number: int, after: CallResult, *, last: bool = False) -> Dependence:
        """What moves from an input of the batch to the first of another."""
        before = self.call.result
        both = [n for n in before.rows if n in after.rows and n in self._known]
        moved = tuple(n for n in both if self._differs(n, before, number, after))
        answer = self._answers_otherwise(before.answer, number, after.answer, last=last)
        return Dependence(moved, answer)

    def _differs(self, name: str, before: CallResult, number: int, after: CallResult) -> bool:
        """Whether a layer says of one input what gives another p-value."""
        row, rows = before.rows[name][number], after.rows[name]
        if row.shape != rows[0].shape:
            return False
        step = (rows - row).norm(dim=1).min()
        noise = (rows - rows[0]).norm(dim=1).max()
        if not step > torch.maximum(self._rounding * row.norm(), NOISE * noise):
            return False
        known = self._known[name]
        said = [before.surprise[name][number].cpu(), after.surprise[name][0].cpu()]
        old, new = (torch.searchsorted(known, values.contiguous()) for values in said)
        return bool((old - new).abs().max() > NEWS * len(known))

    def _answers_otherwise(
        self, before: Tensor | None, number: int, after: Tensor | None, *, last: bool
    ) -> bool | None:
        if before is None or after is None or before.ndim != after.ndim:
            return None
        if before.ndim > 2:  # of steps that are padding, nothing is asked
            steps = min(before.shape[1], after.shape[1])
            kept = slice(-steps, None) if last else slice(steps)
            before, after = before[:, kept], after[:, kept]
        if before.shape[1:] != after.shape[1:]:
            return None
        rows = before.double().reshape(len(before), -1)
        near = torch.maximum(ALIKE * spread(rows), self._rounding * rows[number].norm())
        return bool((after[0].double().flatten() - rows[number]).norm() > near)


def together(steps: Sequence[Dependence]) -> Dependence:
    """What moves in any of some calls."""
    layers = dict.fromkeys(name for step in steps for name in step.layers)
    answers = {step.answer for step in steps}
    return Dependence(
        tuple(layers), True if True in answers else None if None in answers else False
    )


def _is_of_16_bits(watched: Watched, call: RecordedCall) -> bool:
    """Whether a model computes in float16 or bfloat16, in part."""
    dtypes = {p.dtype for p in eager(watched.model).parameters()}
    within = isinstance(call.precision, torch.autocast)
    return within or not dtypes.isdisjoint({torch.float16, torch.bfloat16})
