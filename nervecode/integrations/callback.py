"""What the callbacks of training frameworks share: codes fitted and calibrated after a training."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nervecode.errors import InputError, did_you_mean
from nervecode.layers import WrappedModel, wrap
from nervecode.layers.batch.batches import Labels, RunBatch, check_loader, check_options
from nervecode.layers.batch.inputs import kind
from nervecode.layers.passes.fitting import FitPassOptions
from nervecode.layers.passes.one_pass import one_pass
from nervecode.layers.select import Selector, select_layers
from nervecode.rates import check_rate
from nervecode.scoring.false_alarms import rounded_up

FILE = "nervecode.safetensors"


@dataclass
class CodesAfterTraining:
    """Fits codes to a trained network, calibrates them, and saves them beside its checkpoint.

    Attributes:
        held_out: batches that the training does not see, for calibration.
        layers: what is watched, as in `nervecode.wrap`.
        alpha: of the flag in the figures.
        call: as in `WrappedModel.fit`.
        labels: as in `WrappedModel.fit`.
        fit_options: further options of `WrappedModel.fit`.
        wrapped: the calibrated network, after the training.
        path: the file of the codes, after the training.

    Raises:
        InputError: no loader, or an option that could not be used after the training.
    """

    held_out: Iterable[Any]
    layers: Selector = "all_blocks"
    alpha: float = 0.05
    call: RunBatch | None = None
    labels: Labels | None = None
    fit_options: dict[str, Any] = field(default_factory=dict)
    wrapped: WrappedModel | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        check_loader(self.held_out, "held_out")
        check_rate("alpha", self.alpha)
        check_options("SurpriseCallback", call=self.call, labels=self.labels)
        if not isinstance(self.fit_options, Mapping):
            raise InputError(f"fit_options: found {kind(self.fit_options)}, allowed: a mapping")
        allowed = FitPassOptions.__optional_keys__ - {"call", "labels"}
        for name in self.fit_options:
            if name not in allowed:
                raise InputError(f"fit_options: unknown {name!r}; {did_you_mean(name, allowed)}")

    def check_layers(self, model: nn.Module) -> None:
        """Refuse layers that a network has not, before it is trained."""
        select_layers(model, self.layers)

    @staticmethod
    def check_alone(processes: int) -> None:
        """Refuse several processes, before the first of them has trained."""
        if processes > 1:
            raise InputError(
                f"SurpriseCallback: found {processes} processes, allowed: one; fit codes after the "
                "training, with nervecode.wrap"
            )

    def finish(
        self, model: nn.Module, train: Iterable[Any], folder: Path, validation: Any = None
    ) -> dict[str, float]:
        """Fit, calibrate and save.

        Args:
            model: the trained network.
            train: its training batches.
            folder: where the checkpoint is.
            validation: batches to tell the figures of; None tells none.

        Returns:
            `nervecode/surprise`, the mean score of the validation inputs in bits, and
            `nervecode/flagged`, the share that is flagged at `alpha`.
        """
        if self.wrapped is not None:
            self.wrapped.unwrap()  # a second training
        reading: dict[str, Any] = {"call": self.call, "labels": self.labels}
        wrapped = wrap(model, self.layers).fit(train, **reading, **self.fit_options)
        wrapped.calibrate(self.held_out, **reading)
        self.wrapped, self.path = wrapped, folder / FILE
        wrapped.save(self.path)
        return {} if validation is None else self.figures(wrapped, validation)

    def figures(self, wrapped: WrappedModel, loader: Iterable[Any]) -> dict[str, float]:
        """The figures of some batches; see `finish`."""
        scores, flags = [], []
        smallest = 0.0 if wrapped.calibration is None else wrapped.calibration.smallest_alpha
        if smallest > self.alpha:
            warnings.warn(
                "nervecode/flagged is not told: so few held-out inputs give no alpha below "
                f"{rounded_up(smallest)}, and {self.alpha} is asked for",
                stacklevel=2,
            )
        batches = one_pass(wrapped, loader, "validation", call=self.call, labels=self.labels)
        with batches as validation, wrapped.recording() as traces:
            for batch in validation:
                traces.clear()
                batch.run()
                surprise = wrapped.aggregate(traces)
                scores.append(surprise.score.flatten())
                if smallest <= self.alpha:
                    flags.append(surprise.flag(self.alpha).flatten())
        figures = {"nervecode/surprise": float(torch.cat(scores).mean())}
        if flags:
            figures["nervecode/flagged"] = float(torch.cat(flags).double().mean())
        return figures
