"""The primary signal of a run: a calibrated model as one of its seeds left it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from nervecode.errors import InputError
from nervecode.lab.config.packages import changes, recalling
from nervecode.lab.data.samples import Shape
from nervecode.lab.inference.scored import Scored
from nervecode.lab.inference.scorer import Scorer, other_names
from nervecode.lab.inference.source import Inputs
from nervecode.lab.machine.device import choose_device
from nervecode.lab.run.directory import RunDir, chosen_seed
from nervecode.lab.run.records import require_stage
from nervecode.lab.schema import PRIMARY
from nervecode.lab.stages.checkpoint import load_calibrated
from nervecode.lab.stages.columns import read_columns
from nervecode.lab.stages.signature import Signature
from nervecode.layers import WrappedModel
from nervecode.scoring.layer_calibration import LayerCalibration
from nervecode.scoring.readings import LABEL


class WrappedScorer(Scorer):
    """A wrapped model that is calibrated, on the device where it is."""

    def __init__(self, wrapped: WrappedModel, shape: Shape, identity: Mapping[str, Any]) -> None:
        self.wrapped, self.shape, self.identity = wrapped, shape, dict(identity)
        self.num_samples = self.calibration.num_samples
        self.smallest_alpha = self.calibration.smallest_alpha

    @classmethod
    def of(cls, run: RunDir, seed: int | None, *, device: str | None) -> WrappedScorer:
        """That of a run; raises as `load_primary`."""
        wrapped, made_for = load_primary(run, seed, device=device)
        scorer = cls(wrapped, made_for.shape, identity(run, chosen_seed(run, seed)))
        scorer.encoder = read_columns(run)
        scorer.classes = other_names(made_for.classes)
        scorer.gate_passed = run.meta["gate"]["passed"]
        scorer.resize = run.config.data.resize
        scorer.remarks = tuple(changes(run.meta.get("packages", {})))
        return scorer

    @property
    def calibration(self) -> LayerCalibration:
        """That of the wrapped model."""
        assert self.wrapped.calibration is not None
        return self.wrapped.calibration

    def group_by_class(self) -> None:
        """Give p-values within the predicted class from now on.

        Raises:
            InputError: the codes do not tell the predicted class.
        """
        calibration = self.calibration
        if not any(name.endswith(LABEL) for name in calibration.layers):
            raise InputError(
                "--by-class: the run's codes have no label code, which tells the predicted class; "
                "allowed: a run with signals.nervecode.recipe bits and label_code true"
            )
        self.wrapped.set_calibration(
            calibration.layers,
            method=calibration.method,
            by_class=True,
            standard=calibration.standard,
        )
        self.class_sizes = self.calibration.class_sizes
        self.smallest_alpha = self.calibration.smallest_alpha

    def __call__(self, inputs: Inputs) -> Scored:
        """Score a batch with percentile and p-value."""
        device = next(self.wrapped.model.parameters()).device
        with torch.no_grad():
            logits, traces = self.wrapped.forward_with_trace(inputs.inputs.to(device))
            aggregated = self.wrapped.aggregate(traces)
            prediction = logits.argmax(1)
        return Scored(
            ids=np.array(inputs.ids),
            surprise=aggregated.surprise.float().cpu().numpy(),
            percentile=aggregated.percentile.cpu().numpy(),
            p_value=aggregated.p_value.cpu().numpy(),
            prediction=prediction.cpu().numpy(),
            by_layer=aggregated.by_layer.float().cpu().numpy(),
            layers=aggregated.layers,
            pooled=aggregated.pooled.cpu().numpy() if self.calibration.by_class else None,
        )


def identity(run: RunDir, seed: int) -> dict[str, Any]:
    """What the scores of a seed follow from: the SHA-256 of its files."""
    return {
        "checkpoint": run.recorded(run.paths.checkpoint(seed)),
        "calibration": run.recorded(run.paths.calibration(seed)),
        "seed": seed,
    }


def load_primary(
    run: RunDir, seed: int | None, *, device: str | None
) -> tuple[WrappedModel, Signature]:
    """The calibrated primary signal of a seed, and what it was made for; no data are read.

    Raises:
        InputError: a seed that the run does not have.
        ArtifactError: the run is not calibrated, or a file is missing or damaged.
    """
    chosen = chosen_seed(run, seed)
    require_stage(run, "calibrate")
    where = choose_device(device or run.config.device)
    with recalling(run.meta.get("packages", {})):
        trained = load_calibrated(run, chosen, device=where)
        return trained.signals[PRIMARY], Signature.of(run)
