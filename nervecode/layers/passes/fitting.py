"""The pass of `fit` over its inputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nervecode.errors import check_count
from nervecode.layers.batch.batches import Labels, RunBatch
from nervecode.layers.fitter import CodeFitter, FitOptions
from nervecode.layers.passes.one_pass import PassOptions, one_pass
from nervecode.layers.watched import Watched

if TYPE_CHECKING:
    from typing_extensions import Unpack

CLASSLESS = "fit: call= is given without labels=, so that the codes know of no classes"


class FitPassOptions(FitOptions, PassOptions, total=False):
    """What `fit` can be told: of its classes, of its codes, and of its loader."""

    num_classes: int | None


def fit(
    watched: Watched,
    loader: Iterable[Any],
    *,
    num_classes: int | None = None,
    call: RunBatch | None = None,
    labels: Labels | None = None,
    mask: Labels | None = None,
    progress: bool = False,
    **options: Unpack[FitOptions],
) -> None:
    """Replace the coders by codes fitted to a loader.

    Args:
        watched: the model whose layers are watched.
        loader: ID training data, in batches; see `nervecode.layers.batch.batches.read_batches`.
        num_classes: number of classes; None takes the width of the model's logits.
        call: as in `PassOptions`.
        labels: as in `PassOptions`.
        mask: as in `PassOptions`.
        progress: as in `PassOptions`.
        **options: `reduce`, `length_power`, `rank`, `codes_per_class`, `label_code` and
            `by_position`, as in `CodeFitter`.

    Raises:
        InputError: a batch of another kind, labels out of range, or activations with NaN or
            infinity.
        NotReadyError: fewer than two inputs.
    """
    if num_classes is not None:
        check_count("num_classes", num_classes)
    fitter = CodeFitter(watched, **options)
    told = call is None or labels is not None
    with one_pass(
        watched, loader, "fit", call=call, labels=labels, mask=mask, progress=progress
    ) as batches:
        for batch in batches:
            with fitter.watching(batch.mask):
                output = batch.run()
            if batch.labels is None and not told:
                watched._remarks.tell(CLASSLESS)
                told = True
            fitter.update(batch.labels, num_classes, output=output)
    fitter.finish()
