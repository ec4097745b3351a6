"""The stage `calibrate`: codes fitted on ID train, calibrated on ID calibration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from nervecode.files import replacing, sha256
from nervecode.lab.data.splits import Splits
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.features import extract
from nervecode.lab.models.signals import TraceRecorder, build_signals
from nervecode.lab.ranks.job import current
from nervecode.lab.run.directory import RunDir
from nervecode.lab.schema import SignalConfig
from nervecode.lab.stages.checkpoint import (
    CALIBRATION_FORMAT,
    Trained,
    load_checkpoint,
    pack_signals,
)
from nervecode.layers import WrappedModel
from nervecode.layers.fitter import CodeFitter
from nervecode.layers.storage import metadata


def calibrate_seed(
    run: RunDir, splits: Splits, seed: int, *, device: torch.device, progress: Progress
) -> bool:
    """Fit and calibrate every signal of one seed, or skip it; returns whether it was done now.

    The features of ID train and calibration are kept for the detectors, which need them too.
    """
    checkpoint = run.verified(run.paths.checkpoint(seed))
    signals = {name: s.model_dump() for name, s in run.config.signals.items()}
    inputs = {"checkpoint": sha256(checkpoint), "signals": signals}

    def work() -> list[Path]:
        trained = load_checkpoint(checkpoint, run.config, splits, device=device)
        signals = {**trained.signals, **build_signals(run.config, trained.model, recipe="bits")}
        _fit(run, trained, signals, splits, seed, progress)
        _calibrate(run, trained, signals, splits, seed, progress)
        if not current().leads:
            return []
        _write(run.paths.calibration(seed), signals)
        cached = [run.paths.features(seed, split) for split in ("id_train", "id_calibration")]
        return [run.paths.calibration(seed), *cached]

    return run.stage("calibrate", seed, inputs, work)


def _fit(
    run: RunDir,
    trained: Trained,
    signals: Mapping[str, WrappedModel],
    splits: Splits,
    seed: int,
    progress: Progress,
) -> None:
    """One pass over ID train: the moments of every `bits` signal, and the features."""
    settings = {n: s for n, s in run.config.signals.items() if s.recipe == "bits"}
    fitters = [_fitter(signals[name], one) for name, one in settings.items()]

    def after(labels: Tensor) -> None:
        for fitter in fitters:
            fitter.update(labels, splits.num_classes)

    features = extract(
        trained.model,
        splits.train,
        title=f"fit seed {seed}",
        watching=[fitter.watching for fitter in fitters],
        after=after,
        progress=progress,
    )
    if current().leads:
        features.save(run.paths.features(seed, "id_train"))
    for fitter in fitters:
        _merge(fitter)
        fitter.finish()


def _merge(fitter: CodeFitter) -> None:
    """Let a fitter have seen what those of all ranks saw, in the order of the ranks."""
    job = current()
    for state in job.collect(fitter.state_dict()):
        fitter.merge(state)
    if job.world > 1:
        fitter.load_state_dict(job.spread(fitter.state_dict()))


def _fitter(wrapped: WrappedModel, signal: SignalConfig) -> CodeFitter:
    return CodeFitter(
        wrapped,
        reduce=signal.reduce,
        length_power=signal.length_power,
        rank=signal.rank,
        codes_per_class=signal.codes_per_class,
        label_code=signal.label_code,
    )


def _calibrate(
    run: RunDir,
    trained: Trained,
    signals: Mapping[str, WrappedModel],
    splits: Splits,
    seed: int,
    progress: Progress,
) -> None:
    """One pass over ID calibration: the ID distribution of every signal."""
    recorders = {name: TraceRecorder(wrapped) for name, wrapped in signals.items()}
    features = extract(
        trained.model,
        splits.calibration,
        title=f"calibrate seed {seed}",
        watching=[recorder.watching for recorder in recorders.values()],
        progress=progress,
    )
    if current().leads:
        features.save(run.paths.features(seed, "id_calibration"))
    for name, recorder in recorders.items():
        method = run.config.signals[name].aggregation
        layers = recorder.layers()
        if current().leads:
            signals[name].set_calibration(layers, method=method)


def _write(path: Path, signals: Mapping[str, WrappedModel]) -> None:
    header, tensors = pack_signals(signals)
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=metadata(CALIBRATION_FORMAT, header))
