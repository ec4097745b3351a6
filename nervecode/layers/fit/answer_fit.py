"""AnswerFit: where in the model's output a fit finds its classes, and which layer gives them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nervecode.core.moments import check_labels
from nervecode.errors import InputError
from nervecode.layers.batch.answer import Path, chosen, logits_in, parts_of, same
from nervecode.layers.guard.hooks import of_this_thread
from nervecode.layers.select import linear_layers
from nervecode.layers.taps import fused_parts

SINGLE = (
    "; of a single logit for two classes pass num_classes=2, of a regression "
    "labels=lambda batch: None"
)


class AnswerFit:
    """Finds the logits in what the model returns for the first batch with labels.

    Args:
        model: the model, whose layers have these names.
        called: what is called: it, or what it was compiled from.

    Attributes:
        path: where they are; None before, and where there are none.
        width: how many columns they have, where there are any.
        heads: the linear layers that gave them, in the order in which they ran; None where nothing
            tells.
        num_classes: K, as soon as it is known.
    """

    def __init__(self, model: nn.Module, called: nn.Module) -> None:
        silent = called in fused_parts(model) or isinstance(called, torch.jit.ScriptModule)
        self._model = None if silent else called
        self._linear = linear_layers(model)
        self.path: Path | None = None
        self.width: int | None = None
        self.heads: tuple[str, ...] | None = None
        self.num_classes: int | None = None
        self._labelled: bool | None = None
        self._several = False
        self._forget()

    def _forget(self) -> None:
        self._output: Any = None
        self._ran: list[tuple[str, Tensor]] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block, the first batch's output is kept, and what linear layers return."""
        self._forget()
        with ExitStack() as stack:
            if self._labelled is None:
                for name, module in self._linear.items():
                    see = of_this_thread(partial(self._see, name))
                    stack.enter_context(module.register_forward_hook(see))
                if self._model is not None:
                    keep = of_this_thread(self._keep)
                    stack.enter_context(self._model.register_forward_hook(keep))
            yield

    def _see(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 2:
            self._ran.append((name, output))

    def _keep(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._output = output

    def classes(self, labels: Tensor | None, num_classes: int | None, given: Any) -> int:
        """K of a batch: 1 without labels; as told, or else the width of the model's logits.

        Args:
            labels: (B,) classes.
            num_classes: K, where it is told.
            given: what the call gave, where that is not what the model returned.

        Raises:
            InputError: nothing tells K, labels that are not below it, or labels in some batches
                alone: the other inputs would count as of class 0.
        """
        before, self._labelled = self._labelled, labels is not None
        if before not in (None, self._labelled):
            what, others = ("no labels", "labels") if before else ("labels", "none")
            raise InputError(f"found {what}, in earlier batches {others}; allowed: in all or none")
        if labels is None:
            return 1
        if before is None:
            self._settle(labels, num_classes, given)
            self._forget()
        if self.num_classes is None:
            raise InputError("the model's output is not (B, classes); pass num_classes")
        try:
            check_labels(labels, self.num_classes)
        except InputError as error:
            raise InputError(f"{error}{SINGLE if self.num_classes == 1 else ''}") from None
        return self.num_classes

    def _settle(self, labels: Tensor, num_classes: int | None, given: Any) -> None:
        logits = logits_in(self._output, len(labels))
        told = {path: t for path, t in logits.items() if any(t is p for _, p in parts_of(given))}
        logits = told or logits or logits_in(given, len(labels))
        self.num_classes = num_classes
        if not logits:
            return
        path = chosen(logits, labels, num_classes, [z for _, z in self._ran])
        width = logits[path].shape[1]
        if num_classes not in (None, width):
            return
        self.path, self.width, self._several = path, width, len(logits) > 1
        self.num_classes = width
        self.heads = tuple(self._heads_of(logits[path]))

    def _heads_of(self, logits: Tensor) -> list[str]:
        """The layers that returned the logits, or else what the model made them of.

        That is their softmax, or else has its largest number most often where they have it, as
        before a temperature.
        """
        ran = [(name, z) for name, z in self._ran if z.shape == logits.shape]
        if returned := [name for name, z in ran if same(z, logits)]:
            return returned
        # The answer may be of another precision, as of float32 where layers run under autocast.
        wide = {name: z.detach().to(logits) for name, z in ran}
        for shares in (torch.softmax, torch.log_softmax):
            if made := [n for n, z in wide.items() if torch.allclose(shares(z, 1), logits)]:
                return made
        best = logits.argmax(1)
        hits = {name: int((z.argmax(1) == best).sum()) for name, z in wide.items()}
        most = max(hits.values(), default=0)
        return [name for name, hit in hits.items() if hit == most and 2 * hit >= len(best)]

    def remarks(self, counts: Tensor) -> Iterator[str]:
        """What the (K,) inputs of each class say against the classes."""
        empty, single = int((counts == 0).sum()), int((counts == 1).sum())
        where = "".join(f"[{key!r}]" for key in self.path or ())
        hint = f"; they are those of output{where}: num_classes= tells of others"
        if empty:
            told = hint if self._several else ""
            yield f"fit: {empty} of {len(counts)} classes had no input{told}"
        if single and len(counts) > 1:
            yield (
                f"fit: {single} of {len(counts)} classes had a single input, which tells nothing "
                "of the spread within them"
            )

    # Shards

    def state_dict(self) -> dict[str, Tensor]:
        """Where the logits are, as bytes."""
        if self.path is None:
            return {}
        content = bytearray(json.dumps(self.path).encode())
        path = torch.frombuffer(content, dtype=torch.uint8)
        return {"path": path, "width": torch.tensor(self.width, device="cpu")}

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Take what the fit of another shard found, where this one found nothing."""
        if self.path is None:
            self.path = tuple(json.loads(bytes(state["path"].tolist())))
            self.width = int(state["width"]) if "width" in state else None
