"""Features: what the network says of a split, cached, so that it runs once however many read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nervecode.core.reduce import Reducer
from nervecode.errors import ArtifactError, InputError
from nervecode.files import replacing
from nervecode.lab.data.samples import EVAL_BATCH, Samples, as_float
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.ranks.job import current
from nervecode.layers.select import select_layers


@dataclass(frozen=True)
class Features:
    """What the network said of the N inputs of a split; on the CPU.

    Attributes:
        logits: (N, classes).
        features: (N, D), the input of the head.
        blocks: for each block of the network in order, (N, C) means over the places of its output.
        labels: (N,).
        inputs: (N, *shape), what was said to the network; not saved with the rest.
    """

    logits: Tensor
    features: Tensor
    blocks: tuple[Tensor, ...]
    labels: Tensor
    inputs: Tensor

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        tensors = {"logits": self.logits, "features": self.features, "labels": self.labels}
        tensors |= {f"blocks.{i}": block for i, block in enumerate(self.blocks)}
        with replacing(path) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)

    @classmethod
    def load(cls, path: Path, inputs: Tensor) -> Features:
        """Read what `save` wrote, of these inputs.

        Raises:
            ArtifactError: the file is missing or damaged.
        """
        try:
            tensors = load_file(path)
            blocks = [tensors.pop(f"blocks.{i}") for i in range(len(tensors) - 3)]
            return cls(**tensors, blocks=tuple(blocks), inputs=inputs)
        except (OSError, SafetensorError, TypeError, KeyError) as error:
            raise ArtifactError(f"{path}: is missing or damaged ({error})") from None

    @property
    def predictions(self) -> Tensor:
        """(N,) the most probable class."""
        return self.logits.argmax(1)


def extract(
    model: Classifier,
    samples: Samples,
    *,
    title: str,
    watching: Sequence[Callable[[], AbstractContextManager[object]]] = (),
    after: Callable[[Tensor], None] = lambda labels: None,
    progress: Progress,
) -> Features:
    """Run the network once over a split.

    Several processes run a part each, in whole batches, so that each batch gives the same bits as
    in one process. The first gets the features of all parts, in order; the others those of theirs.

    Args:
        model: the classifier, on its device.
        samples: the split.
        title: what progress is called.
        watching: contexts to enter around each batch's forward, such as recordings of codes.
        after: called with the labels of each batch of this process after its forward.
        progress: told of every batch.

    Raises:
        InputError: logits with NaN or infinity.
    """
    device, job = model.head.weight.device, current()
    part = samples[job.shard(len(samples), unit=EVAL_BATCH)]
    batches = part.batches(EVAL_BATCH)
    if not len(part) and job.world > 1:  # an empty batch still tells names and shapes
        batches = iter([(as_float(part.inputs), part.labels)])
    outside: list[Tensor] = []
    model.eval()
    with _watching(model) as (inside, blocks), torch.no_grad():
        steps = -(-len(part) // EVAL_BATCH)
        for x, y in progress.track(title, batches, steps):
            with ExitStack() as stack:
                for context in watching:
                    stack.enter_context(context())
                outside.append(model(x.to(device)).float().cpu())
            after(y.to(device))
    logits = job.gather(torch.cat(outside))
    if not logits.isfinite().all():
        raise InputError(f"{title}: the network's logits hold NaN or infinity")
    pooled = tuple(job.gather(torch.cat(parts)) for parts in blocks)
    whole = samples if job.leads else part
    features = job.gather(torch.cat(inside))
    return Features(logits, features, pooled, whole.labels, whole.inputs)


def block_modules(model: Classifier) -> list[nn.Module]:
    """The blocks of a classifier, in order."""
    return list(select_layers(model, "all_blocks").values())


@contextmanager
def _watching(model: Classifier) -> Iterator[tuple[list[Tensor], list[list[Tensor]]]]:
    """Within it, each forward adds to two lists: inputs of the head, and means of each block."""
    inside: list[Tensor] = []
    modules = block_modules(model)
    blocks: list[list[Tensor]] = [[] for _ in modules]
    pool = Reducer("mean")

    def see_features(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        inside.append(args[0].float().cpu())

    def see_block(index: int) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, args, out: blocks[index].append(pool(out).float().cpu())

    with ExitStack() as stack:
        stack.enter_context(model.head.register_forward_pre_hook(see_features))
        for i, module in enumerate(modules):
            stack.enter_context(module.register_forward_hook(see_block(i)))
        yield inside, blocks
