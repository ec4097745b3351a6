"""Features: what the network says of a split, cached, so that it runs once however many read it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nervecode.errors import ArtifactError, InputError
from nervecode.lab.data import Samples
from nervecode.lab.files import replacing
from nervecode.lab.models import Classifier
from nervecode.lab.progress import Progress

EVAL_BATCH = 256


@dataclass(frozen=True)
class Features:
    """Logits (N, C), the input of the head (N, D), and labels (N,) of a split; on the CPU."""

    logits: Tensor
    features: Tensor
    labels: Tensor

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        with replacing(path) as temporary:
            save_file({k: v.contiguous() for k, v in asdict(self).items()}, temporary)

    @classmethod
    def load(cls, path: Path) -> Features:
        """Read what `save` wrote.

        Raises:
            ArtifactError: the file is missing or damaged.
        """
        try:
            return cls(**load_file(path))
        except (OSError, SafetensorError, TypeError) as error:
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

    Args:
        model: the classifier, on its device.
        samples: the split.
        title: what progress is called.
        watching: contexts to enter around each batch's forward, such as recordings of codes.
        after: called with the labels of each batch after its forward.
        progress: told of every batch.

    Raises:
        InputError: logits with NaN or infinity.
    """
    device = model.head.weight.device
    inside: list[Tensor] = []
    outside: list[Tensor] = []

    def see_features(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        inside.append(args[0].float().cpu())

    handle = model.head.register_forward_pre_hook(see_features)
    model.eval()
    try:
        with torch.no_grad():
            steps = -(-len(samples) // EVAL_BATCH)
            for x, y in progress.track(title, samples.batches(EVAL_BATCH), steps):
                with ExitStack() as stack:
                    for context in watching:
                        stack.enter_context(context())
                    outside.append(model(x.to(device)).float().cpu())
                after(y.to(device))
    finally:
        handle.remove()
    logits = torch.cat(outside)
    if not logits.isfinite().all():
        raise InputError(f"{title}: the network's logits hold NaN or infinity")
    return Features(logits, torch.cat(inside), samples.labels)
