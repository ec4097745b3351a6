"""Beside: what layers say of an input that has others beside it, looked at once a calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from nervecode.layers.alone import Alone, Moved, together
from nervecode.layers.batch_statistics import remark_on_statistics
from nervecode.layers.hooks import has_others
from nervecode.layers.kept_calls import KeptCall, KeptCalls
from nervecode.layers.order import layers_of_others
from nervecode.layers.watched import Watched, eager

NAMED = 5  # layers of a sentence

MASK = "mask= of fit, calibrate and score tells which positions are real"
AS_THERE = "p-values hold for batches that are made as those of the calibration"


class Beside(NamedTuple):
    """What was found.

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


def beside(watched: Watched, kept: KeptCalls, readings: Mapping[str, Tensor]) -> Beside:
    """What the kept calls tell, of which some are made again, in other batches.

    That changes neither random numbers nor the model. Nothing is said where the model does not run
    so, where it holds what `restored` cannot put back, or where others have hooks, which would see
    these calls.
    """
    if has_others(eager(watched.model)):
        return Beside()
    batch = kept.batch
    joined, moved = _joined(watched, kept, readings)
    calls = [call for call in (batch, joined) if call is not None]
    others = dict.fromkeys(name for call in calls for name in layers_of_others(watched, call))
    alone = None if batch is None else Alone(watched, readings, batch)
    if alone is not None:
        moved = together([moved, _moved(alone)])
    layers = [name for name in moved.layers if name not in others]
    padded = [name for name in _padded(alone) if name not in {*others, *layers}]
    told = []
    if layers and moved.answer is not False:
        if not remark_on_statistics(eager(watched.model)):
            told.append(_on_model(layers, moved.answer))
        layers = []
    if padded and len(kept.shapes) > 1:
        layers, padded = [*layers, *padded], []
    if padded:
        told.append(
            f"at {_listed(padded)} padding is read, which the model's answer does not heed: "
            f"p-values hold for inputs that are padded to the same length; {MASK}"
        )
    if kept.one_by_one and len(kept.singles) > 1 and joined is None:
        told.append(
            "all batches were of one input, and no other could be made of them to see whether what "
            "is read of an input depends on others beside it: score one by one, too"
        )
    return Beside(tuple(others), tuple(layers), tuple(told))


def _on_model(layers: Sequence[str], answer: bool | None) -> str:
    too = ", and so does the model's answer" if answer else ""
    return (
        f"what is read at {_listed(layers)} of an input depends on the others of its batch{too}, "
        "as where a model takes statistics of its batch, pads it, or attends over it for want of "
        f"batch_first=True: {AS_THERE}"
    )


def _moved(alone: Alone) -> Moved:
    """What moves where inputs are alone; nothing where the model does not run so."""
    try:
        return alone.moved()
    except Exception:  # of a batch that the model was never given: no error of the user's
        return Moved()


def _padded(alone: Alone | None) -> tuple[str, ...]:
    """The layers that read padding, as far as it can be seen, where the answer does not."""
    if alone is None or alone.call.masked:
        return ()
    layers = dict[str, None]()
    for end in alone.ends:
        try:
            moved = alone.moved_without(end)
        except Exception:  # as above
            continue
        if moved.answer is False:
            layers |= dict.fromkeys(moved.layers)
    return tuple(layers)


def _joined(
    watched: Watched, kept: KeptCalls, readings: Mapping[str, Tensor]
) -> tuple[KeptCall | None, Moved]:
    """Inputs that came in several batches as one batch, and what moves in it.

    Where no batch had inputs of several lengths. Padding between them counts where the model's
    answer does not heed it; else those of one shape are put together.
    """
    if len(kept.singles) < 2 or (kept.batch is not None and kept.varied):
        return None, Moved()
    for singles in kept.groups():
        try:
            call = kept.together(watched, singles)
            moved = Alone(watched, readings, call).moved_from(singles)
        except Exception:  # as above
            continue
        if moved.answer is False or len({single.shape for single in singles}) == 1:
            return call, moved
    return None, Moved()


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    word = "layer" if len(names) == 1 else "layers"
    return f"{word} {', '.join(map(repr, names[:NAMED]))}{more}"
