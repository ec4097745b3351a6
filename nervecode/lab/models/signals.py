"""Signals: the codebook scores of a config, as wrapped models that share one network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from nervecode.core import SoftAssignment
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.ranks.job import current
from nervecode.lab.schema import Config, SignalConfig
from nervecode.layers import WrappedModel
from nervecode.layers.coders.fresh import fresh_coders
from nervecode.scoring.readings import readings


def build_signals(config: Config, model: Classifier, *, recipe: str) -> dict[str, WrappedModel]:
    """The signals of one recipe, with fresh codebooks, all watching the same model."""
    chosen = {name: s for name, s in config.signals.items() if s.recipe == recipe}
    return {name: _wrap(model, signal) for name, signal in chosen.items()}


def _wrap(model: Classifier, signal: SignalConfig) -> WrappedModel:
    # Not `wrap`, which leaves the random numbers as they were: several signals would begin alike.
    coders = fresh_coders(
        model,
        signal.layers,
        num_codes=signal.num_codes,
        coding_dim=signal.coding_dim,
        assignment=SoftAssignment(
            signal.temperature, signal.beta_length, signal.beta_entropy, signal.beta_distance
        ),
        detach=signal.detach,
    )
    return WrappedModel(model, coders)


class TraceRecorder:
    """Keeps the surprise and the regret of every layer, over the batches of a split."""

    def __init__(self, wrapped: WrappedModel) -> None:
        self.wrapped = wrapped
        self._rows: list[Mapping[str, Tensor]] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block, the model runs one batch."""
        with self.wrapped.recording() as traces:
            yield
        self._rows.append({n: readings(n, t).cpu() for n, t in traces.items()})

    def layers(self) -> dict[str, Tensor]:
        """Layer -> `readings` of all batches; of all ranks' on the first of several."""
        gather = current().gather
        return {
            name: gather(torch.cat([row[name] for row in self._rows])) for name in self._rows[0]
        }
