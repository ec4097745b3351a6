"""Forward: one pass of a network in training, and what is seen of it on the way."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nervecode.core import CodingTrace
from nervecode.core.reduce import Reducer
from nervecode.errors import InputError
from nervecode.lab.models.classifier import Classifier
from nervecode.layers import WrappedModel
from nervecode.layers.select import select_layers
from nervecode.training.unit import widened

FEATURES = "features"  # the input of the head, in the place of a selector of layers

Layers = Mapping[str, nn.Module]
Traces = Mapping[str, Mapping[str, CodingTrace]]


@dataclass(frozen=True)
class ForwardPass:
    """What one pass said of B inputs.

    Attributes:
        logits: (B, classes).
        vectors: layer -> (B, D) its reduced activations, of the layers that a loss reads.
        traces: learned signal -> layer -> trace.
    """

    logits: Tensor
    vectors: Mapping[str, Tensor]
    traces: Traces

    @property
    def features(self) -> Tensor:
        """(B, D), the input of the head, where a loss reads it."""
        return self.vectors[FEATURES]

    def widened(self) -> ForwardPass:
        """The same in float32 at least, which losses are taken in."""
        vectors = {name: widened(vector) for name, vector in self.vectors.items()}
        return ForwardPass(widened(self.logits), vectors, self.traces)


Forward = Callable[[Tensor], ForwardPass]


class Coded(nn.Module):
    """A model, its learned codebooks and the layers that losses read, as one module.

    Args:
        model: the classifier.
        signals: the learned signals that watch it.
        reads: loss -> the layers that it reads.
    """

    def __init__(
        self,
        model: Classifier,
        signals: Mapping[str, WrappedModel],
        reads: Mapping[str, Layers],
    ) -> None:
        super().__init__()
        self.model = model
        self.coders = nn.ModuleList(wrapped.coders for wrapped in signals.values())
        self.signals = dict(signals)  # a plain mapping: they hold the same modules
        self.reads = reads
        self.read = {name: module for read in reads.values() for name, module in read.items()}
        self.reducer = Reducer("mean_std")

    def forward(self, x: Tensor) -> ForwardPass:
        """(B, *shape) inputs -> what is seen, in one pass, however many read it."""
        vectors: dict[str, Tensor] = {}
        with ExitStack() as stack:
            traces = {n: stack.enter_context(w.recording()) for n, w in self.signals.items()}
            for name, module in self.read.items():
                stack.enter_context(self._reading(name, module, vectors))
            logits = self.model(x)
        return ForwardPass(logits, vectors, traces)

    def _reading(self, name: str, module: nn.Module, vectors: dict[str, Tensor]) -> Any:
        """A hook that keeps what a layer returns, reduced; of the head, what it is given."""

        def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            vectors[name] = args[0] if name == FEATURES else self.reducer(output)

        return module.register_forward_hook(keep)


def layers_of(model: Classifier, layers: str | Iterable[str]) -> Layers:
    """The modules behind selectors; `features` stands for the head, whose input they are.

    Raises:
        InputError: a selector that matches nothing.
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    others = [name for name in names if name != FEATURES]
    head: dict[str, nn.Module] = {FEATURES: model.head} if FEATURES in names else {}
    return {**(select_layers(model, others) if others else {}), **head}


def build_forward(coded: Coded, *, compiled: bool, together: bool) -> Forward:
    """One pass of a model: as it is, compiled, or with gradients averaged over processes.

    Raises:
        InputError: to be compiled, with more than one learned signal or a loss that reads layers.
    """
    if together:
        return _averaged(coded)
    return _compiled(coded) if compiled else coded


def _compiled(coded: Coded) -> Forward:
    if len(coded.signals) > 1:
        raise InputError(
            f"train.compile: found {len(coded.signals)} learned signals "
            f"({', '.join(coded.signals)}), allowed with true: one signal of recipe v0_1_1"
        )
    if coded.reads:
        raise InputError(
            f"train.compile: found {' and '.join(coded.reads)}, which read layers; "
            "allowed with true: losses that read logits alone"
        )
    for name, wrapped in coded.signals.items():  # the one there is
        traced = torch.compile(wrapped.forward_with_trace)
        return partial(_seen, traced, name)
    bare = torch.compile(coded.model)
    return lambda x: ForwardPass(bare(x), {}, {})


def _seen(traced: Callable[[Tensor], Any], name: str, x: Tensor) -> ForwardPass:
    logits, traces = traced(x)
    return ForwardPass(logits, {}, {name: traces})


def _averaged(coded: Coded) -> Forward:
    # Running statistics need no broadcast: every rank computes those of the whole batch. The
    # option has another name since PyTorch 2.14.
    known = inspect.signature(DistributedDataParallel).parameters
    name = next(n for n in ("forward_sync_buffers", "broadcast_buffers") if n in known)
    options: dict[str, Any] = {name: False}
    return DistributedDataParallel(coded, **options)
