"""The stage `score`: every method on every split, and the surprise of each layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nervecode.files import sha256, write_json, write_npz
from nervecode.lab.data.samples import Samples, as_float
from nervecode.lab.detectors.combination import Arrays, combine
from nervecode.lab.detectors.registry import DETECTORS, Score
from nervecode.lab.models.features import Features, extract
from nervecode.lab.models.signals import TraceRecorder
from nervecode.lab.ranks.job import current
from nervecode.lab.schema import PRIMARY
from nervecode.lab.stages.checkpoint import Trained, load_calibrated
from nervecode.lab.stages.trial import Trial
from nervecode.scoring import stack_layers

SHOWN = 6  # the most surprising inputs of a split, which are kept for the report

Layers = dict[str, dict[str, Tensor]]


def score_seed(trial: Trial) -> bool:
    """Score every split of one seed, or skip it; returns whether it was done now."""
    run, seed, config = trial.run, trial.seed, trial.config
    inputs = {
        "calibration": sha256(run.verified(run.paths.calibration(seed))),
        "detectors": config.bench.detectors,
        "options": config.bench.options,
        "limit_eval": config.bench.limit_eval,
        "data": config.data.model_dump(mode="json"),
    }

    def work() -> list[Path]:
        trained = load_calibrated(run, seed, device=trial.device)
        fitted, failures = _fit_detectors(trial, trained)
        scores: dict[str, Arrays] = {}
        written = []
        for split, samples in trial.splits.evaluated().items():
            features, layers = _run_split(trial, trained, split, samples)
            if not current().leads:
                continue
            scores[split] = _surprises(trained, split, layers)
            scores[split] |= _baselines(fitted, failures, features)
            most = _most_surprising(samples, scores[split][PRIMARY])
            written.append(_write_layers(trial, split, features, layers[PRIMARY], most))
        if not current().leads:
            return []
        for split, arrays in _drop_failed(scores, failures).items():
            combined = arrays | combine(scores["id_calibration"], arrays)
            write_npz(
                run.paths.scores(seed, split), {n: s.float().numpy() for n, s in combined.items()}
            )
            written.append(run.paths.scores(seed, split))
        write_json(run.paths.failures(seed), failures)
        return [*written, run.paths.failures(seed)]

    return run.stage("score", seed, inputs, work)


def _fit_detectors(trial: Trial, trained: Trained) -> tuple[dict[str, Score], dict[str, str]]:
    """Every baseline of the config, fitted; and the reason of each that failed."""
    fitted: dict[str, Score] = {}
    failures: dict[str, str] = {}
    bench = trial.config.bench
    if bench.detectors:
        train = _cached(trial, trained, "id_train", trial.splits.train)
        for name in bench.detectors if current().leads else ():
            try:
                options = bench.options.get(name, {})
                fitted[name] = DETECTORS[name](train, trained.model, **options)
            except Exception as error:  # a baseline that fails is a row with its reason
                failures[name] = _reason(error)
    return fitted, failures


def _cached(trial: Trial, trained: Trained, split: str, samples: Samples) -> Features:
    """Features that `calibrate` kept, or a new pass where they were tidied away."""
    run, title = trial.run, f"features seed {trial.seed}"
    path = run.paths.features(trial.seed, split)
    if current().share(path.exists() and run.recorded(path) is not None):
        return Features.load(run.verified(path), samples.inputs)
    return extract(trained.model, samples, title=title, progress=trial.progress)


def _run_split(
    trial: Trial, trained: Trained, split: str, samples: Samples
) -> tuple[Features, Layers]:
    """One pass over a split: features, and surprise and regret per signal and layer."""
    if split == "id_calibration":
        features = _cached(trial, trained, split, samples)
        return features, {n: c.layers for n, c in trained.calibrations.items()}
    recorders = {name: TraceRecorder(wrapped) for name, wrapped in trained.signals.items()}
    features = extract(
        trained.model,
        samples,
        title=f"score seed {trial.seed} {split}",
        watching=[recorder.watching for recorder in recorders.values()],
        progress=trial.progress,
    )
    return features, {name: recorder.layers() for name, recorder in recorders.items()}


def _surprises(trained: Trained, split: str, layers: Layers) -> Arrays:
    """Signal -> (N,) scores; of the calibration inputs, each as if it were new."""
    if split == "id_calibration":
        return {name: calibration.scores for name, calibration in trained.calibrations.items()}
    return {n: c.scores_of(layers[n]) for n, c in trained.calibrations.items()}


def _baselines(fitted: Mapping[str, Score], failures: dict[str, str], features: Features) -> Arrays:
    """Baseline -> (N,) finite scores; one that yields others is entered in `failures`."""
    scores: Arrays = {}
    for name, scorer in fitted.items():
        try:
            values = torch.as_tensor(scorer(features)).detach().double().cpu()
        except Exception as error:
            failures[name] = _reason(error)
            continue
        count = len(features.labels)
        if values.shape != (count,):
            failures[name] = f"its scores have shape {tuple(values.shape)}, allowed: ({count},)"
        elif not values.isfinite().all():
            failures[name] = "its scores hold NaN or infinity"
        else:
            scores[name] = values
    return scores


def _drop_failed(scores: dict[str, Arrays], failures: Mapping[str, str]) -> dict[str, Arrays]:
    """A method that failed on one split has no score on any."""
    return {
        split: {name: s for name, s in arrays.items() if name not in failures}
        for split, arrays in scores.items()
    }


def _most_surprising(samples: Samples, scores: Tensor) -> dict[str, np.ndarray]:
    """The numbers of the inputs with the highest scores, and those inputs; images as bytes."""
    rows = scores.argsort(descending=True, stable=True)[:SHOWN]
    inputs = as_float(samples.inputs[rows])
    if inputs.ndim == 4:
        inputs = (255 * inputs.clamp(0, 1)).round().byte()
    return {"shown": rows.numpy(), "shown_inputs": inputs.numpy()}


def _write_layers(
    trial: Trial,
    split: str,
    features: Features,
    layers: Mapping[str, Tensor],
    most: Mapping[str, np.ndarray],
) -> Path:
    surprise = stack_layers({name: pair[:, 0] for name, pair in layers.items()})
    arrays = {
        "layer_names": np.array(list(layers)),
        "surprise": surprise.float().numpy(),
        "labels": features.labels.numpy(),
        "predictions": features.predictions.numpy(),
        "sample_ids": np.arange(len(features.labels)),
        **most,
    }
    path = trial.run.paths.layerwise(trial.seed, split)
    write_npz(path, arrays)
    return path


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
