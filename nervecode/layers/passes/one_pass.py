"""One pass of a watched model over a loader, in evaluation mode and without gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

import torch

from nervecode.layers.batch.batches import Batch, Labels, RunBatch, read_batches
from nervecode.layers.checks.batch_statistics import remark_on_statistics
from nervecode.layers.passes.progress import length_of, shown
from nervecode.layers.watched import Watched, eager


class PassOptions(TypedDict, total=False):
    """How `fit` and `calibrate` read their loader.

    Attributes:
        call: runs the model on a batch of any kind: `lambda model, batch: ...`. It runs once more
            on the first batch with floating tensors of another dtype than the model's, to see
            whether this takes them: what it writes elsewhere, it writes for that run too.
        labels: gives the labels of a batch, or None: `lambda batch: ...`; or their key. They are
            not given to the model.
        mask: gives the real positions of a batch, (B, ...) with 1 where they are, or their key;
            not needed where the model is told, by `attention_mask` or `src_key_padding_mask`.
        progress: say on standard error how far the pass is.
    """

    call: RunBatch | None
    labels: Labels | None
    mask: Labels | None
    progress: bool


@contextmanager
def one_pass(
    watched: Watched,
    loader: Iterable[Any],
    stage: str,
    *,
    call: RunBatch | None = None,
    labels: Labels | None = None,
    mask: Labels | None = None,
    progress: bool = False,
) -> Iterator[Iterator[Batch]]:
    """Within it, the batches of a loader; `stage` is for errors, the options are `PassOptions`.

    A context and not a generator alone: one that is left by an error would keep gradients switched
    off, and the model in evaluation mode, until it is collected.
    """
    model = eager(watched.model)
    if remark := remark_on_statistics(model):
        watched._remarks.tell(f"{stage}: {remark}", about="batch statistics")
    batches = read_batches(loader, model, call=call, labels=labels, mask=mask, stage=stage)
    if progress:
        batches = shown(batches, stage, length_of(loader))
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        # Out of any inference mode around: its tensors could not be used outside of it.
        with torch.inference_mode(False), torch.no_grad():
            yield batches
    finally:
        for module, training in modes.items():
            module.training = training
