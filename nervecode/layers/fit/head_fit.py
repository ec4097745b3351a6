"""HeadFit: what a fit gathers of the classifier's head."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from nervecode.core import LabelCode
from nervecode.core.moments import MomentStream
from nervecode.layers.coder import Coder
from nervecode.layers.coders.label import LabelCoder
from nervecode.layers.fit.layer_fit import moments_of, new_stream
from nervecode.layers.guard.hooks import of_this_thread
from nervecode.layers.select import linear_layers
from nervecode.scoring.readings import LABEL


class HeadFit:
    """The moments of the head's features.

    The head is the linear layer that gives the model's logits, once per batch and from (B, D), or
    the last to run that has as many outputs, where the model returns no logits. Which layer runs
    last only a forward tells: modules are registered in any order.
    """

    def __init__(self, model: nn.Module, rank: int) -> None:
        self.candidates = linear_layers(model)
        self.rank = rank
        self.stream: MomentStream | None = None
        self._seen: dict[str, list[Tensor | None]] = {}

    @property
    def name(self) -> str:
        """The head's, as soon as a batch has been seen; nothing for a model without one."""
        return next(iter(self.candidates), "")

    @property
    def is_fitted(self) -> bool:
        """Whether a head was seen in all batches so far, at least one."""
        return bool(self.candidates) and self.stream is not None

    @property
    def ran(self) -> bool:
        """Whether the head ran once in the last batch, and on (B, D)."""
        calls = self._seen.get(self.name, [])
        return len(calls) == 1 and calls[0] is not None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block, what the candidates are given in this thread is kept."""
        self._seen = {}
        with ExitStack() as stack:
            for name, module in self.candidates.items():
                see = of_this_thread(partial(self._see, name))
                stack.enter_context(module.register_forward_pre_hook(see, with_kwargs=True))
            yield

    def _see(
        self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        features = next(chain(args, kwargs.values()), None)
        # Activations by position, which no head is given, would fill the memory. A copy is kept,
        # which no later in-place operation changes.
        rows = features if isinstance(features, Tensor) and features.ndim == 2 else None
        self._seen.setdefault(name, []).append(None if rows is None else rows.clone())

    def update(self, num_classes: int | None, heads: Collection[str] | None = None) -> str:
        """Add what was seen; without labels, or a classifier's head, nothing is coded.

        Args:
            num_classes: K; None without labels.
            heads: the layers that gave the logits; None where that is not known.

        Returns:
            The head of the batches before, where it is none any more.
        """
        before = self.name if self.is_fitted else ""
        ran = {
            name: calls[0]
            for name, calls in self._seen.items()
            if (heads is None or name in heads)
            and self.candidates[name].out_features == num_classes
            and len(calls) == 1
            and calls[0] is not None
        }
        self.candidates = {name: self.candidates[name] for name in list(ran)[-1:]}
        for name in self.candidates:
            z = LabelCode.unit(ran[name].float())
            self._stream_of(z).add(z, z.new_zeros(len(z), dtype=torch.long))
        return "" if self.candidates else before

    def _stream_of(self, like: Tensor) -> MomentStream:
        self.stream = self.stream or new_stream(1, like, self.rank)
        return self.stream

    def state_dict(self) -> dict[str, Tensor]:
        """What was seen, as tensors by name."""
        if not self.candidates:
            return {"left_alone": torch.ones(1)}
        return {} if self.stream is None else vars(self.stream.moments)

    def merge(self, name: str, state: Mapping[str, Tensor]) -> None:
        """Add what the fit of the next shard saw of the head `name`."""
        merged = {n: module for n, module in self.candidates.items() if n == name}
        self.candidates = {} if "left_alone" in state else merged
        if self.candidates:
            self._stream_of(state["means"]).merge(moments_of(state))

    def coders(self) -> dict[str, Coder]:
        """The label coder by its name, or nothing where there is no head."""
        if not self.candidates or self.stream is None:
            return {}
        codes = LabelCode.fit(self.stream.moments, rank=self.rank)
        return {f"{self.name}{LABEL}": LabelCoder(codes)}
