"""check_batches: whether what layers say of an input depends on the others of its batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from nervecode.layers.checks.batch_comparison import BatchComparison, Dependence, together
from nervecode.layers.checks.batch_statistics import remark_on_statistics
from nervecode.layers.checks.recorded_calls import CallRecorder, RecordedCall
from nervecode.layers.checks.row_order import reordered_layers
from nervecode.layers.guard.hooks import has_others
from nervecode.layers.watched import Watched, eager

NAMED = 5  # layers of a sentence

MASK = "mask= of fit, calibrate and score tells which positions are real"
AS_THERE = "p-values hold for batches that are made as those of the calibration"


class BatchFindings(NamedTuple):
    """What the checks found.

    Attributes:
        others: layers whose rows are those of other inputs of the batch.
        dependent: those that say something else of an input where others are beside it, while the
            model answers the same.
        told: what else is to be said, in words.
    """

    others: tuple[str, ...] = ()
    dependent: tuple[str, ...] = ()
    told: tuple[str, ...] = ()

    def remarks(self, dependent: Sequence[str], *, stay: bool) -> Iterator[str]:
        """All of it in words, where some of the dependent layers stay in the score or do not."""
        for name in self.others:
            yield (
                f"layer {name!r} is left out of the score: its rows are in another order "
                "than the inputs, as in a model that sorts its batch"
            )
        if dependent:
            how = "kept in the score, though" if stay else "left out of the score:"
            yield (
                f"{_listed(dependent)} {'is' if len(dependent) == 1 else 'are'} {how} what is read "
                "there of an input depends on the others of its batch, as where padding is read, "
                f"while the model's answer does not; {MASK}{f'; else {AS_THERE}' if stay else ''}"
            )
        yield from self.told


def check_batches(
    watched: Watched, recorder: CallRecorder, readings: Mapping[str, Tensor]
) -> BatchFindings:
    """What a calibration's recorded calls tell, some of which run again in other batches.

    That changes neither random numbers nor the model. Nothing is said where the model does not run
    so, where it holds what `restored` cannot put back, or where others have hooks, which would see
    these calls.
    """
    if has_others(eager(watched.model)):
        return BatchFindings()
    batch = recorder.batch
    joined, moved = _joined(watched, recorder, readings)
    calls = [call for call in (batch, joined) if call is not None]
    others = dict.fromkeys(name for call in calls for name in reordered_layers(watched, call))
    comparison = None if batch is None else BatchComparison(watched, readings, batch)
    if comparison is not None:
        moved = together([moved, _moved(comparison)])
    layers = [name for name in moved.layers if name not in others]
    padded = [name for name in _padded(comparison) if name not in {*others, *layers}]
    told = []
    if layers and moved.answer is not False:
        if not remark_on_statistics(eager(watched.model)):
            told.append(_on_model(layers, moved.answer))
        layers = []
    if padded and len(recorder.shapes) > 1:
        layers, padded = [*layers, *padded], []
    if padded:
        told.append(
            f"at {_listed(padded)} padding is read, which the model's answer does not heed: "
            f"p-values hold for inputs that are padded to the same length; {MASK}"
        )
    if recorder.one_by_one and len(recorder.singles) > 1 and joined is None:
        told.append(
            "all batches were of one input, and no other could be made of them to see whether what "
            "is read of an input depends on others beside it: score one by one, too"
        )
    return BatchFindings(tuple(others), tuple(layers), tuple(told))


def _on_model(layers: Sequence[str], answer: bool | None) -> str:
    too = ", and so does the model's answer" if answer else ""
    return (
        f"what is read at {_listed(layers)} of an input depends on the others of its batch{too}, "
        "as where a model takes statistics of its batch, pads it, or attends over it for want of "
        f"batch_first=True: {AS_THERE}"
    )


def _moved(comparison: BatchComparison) -> Dependence:
    """What moves where inputs are alone; nothing where the model does not run so."""
    try:
        return comparison.without_others()
    except Exception:  # of a batch that the model was never given: no error of the user's
        return Dependence()


def _padded(comparison: BatchComparison | None) -> tuple[str, ...]:
    """The layers that read padding, as far as it can be seen, where the answer does not."""
    if comparison is None or comparison.call.masked:
        return ()
    layers = dict[str, None]()
    for end in comparison.ends:
        try:
            moved = comparison.without_padding(end)
        except Exception:  # as above
            continue
        if moved.answer is False:
            layers |= dict.fromkeys(moved.layers)
    return tuple(layers)


def _joined(
    watched: Watched, recorder: CallRecorder, readings: Mapping[str, Tensor]
) -> tuple[RecordedCall | None, Dependence]:
    """Inputs that came in several batches as one batch, and what moves in it.

    Where no batch had inputs of several lengths. Padding between them counts where the model's
    answer does not heed it; else those of one shape are put together.
    """
    if len(recorder.singles) < 2 or (recorder.batch is not None and recorder.varied):
        return None, Dependence()
    for singles in recorder.groups():
        try:
            call = recorder.together(watched, singles)
            moved = BatchComparison(watched, readings, call).from_singles(singles)
        except Exception:  # as above
            continue
        if moved.answer is False or len({single.shape for single in singles}) == 1:
            return call, moved
    return None, Dependence()


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    word = "layer" if len(names) == 1 else "layers"
    return f"{word} {', '.join(map(repr, names[:NAMED]))}{more}"
