"""The stage `calibrate`: codes fitted on ID train, calibrated on ID calibration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from nervecode.errors import InputError
from nervecode.files import sha256
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.features import extract
from nervecode.lab.models.signals import TraceRecorder, build_signals
from nervecode.lab.ranks.job import current
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.meta import serves_score
from nervecode.lab.schema import SignalConfig
from nervecode.lab.stages.checkpoint import load_checkpoint, write_calibration
from nervecode.lab.stages.same_data import refuse_other_training
from nervecode.lab.stages.trial import Trial
from nervecode.layers import WrappedModel
from nervecode.layers.checks.batch_statistics import remark_on_statistics
from nervecode.layers.fitter import CodeFitter


def calibrate_seed(trial: Trial) -> bool:
    """Fit and calibrate every signal of one seed, or skip it; returns whether it was done now.

    The features of ID train and calibration are kept for the detectors, which need them too.
    """
    run, seed, config = trial.run, trial.seed, trial.config
    refuse_extended(run)
    checkpoint = run.verified(run.paths.checkpoint(seed))
    refuse_other_training(run, seed)
    signals = {name: s.model_dump() for name, s in config.signals.items()}
    inputs = {"checkpoint": sha256(checkpoint), "signals": signals}

    def work() -> list[Path]:
        trained = load_checkpoint(run, checkpoint, device=trial.device)
        signals = {**trained.signals, **build_signals(config, trained.model, recipe="bits")}
        _fit(trial, trained.model, signals)
        _calibrate(trial, trained.model, signals)
        if not current().leads:
            return []
        write_calibration(run.paths.calibration(seed), signals)
        cached = [run.paths.features(seed, split) for split in ("id_train", "id_calibration")]
        return [run.paths.calibration(seed), *cached]

    return run.stage("calibrate", seed, inputs, work)


def refuse_extended(run: RunDir) -> None:
    """Refuse a run whose calibration holds inputs that no split has.

    Raises:
        InputError: it is such a run.
    """
    if why := serves_score(run.meta):
        raise InputError(f"{run.root}: {why}")


def _fit(trial: Trial, model: Classifier, signals: Mapping[str, WrappedModel]) -> None:
    """One pass over ID train: the moments of every `bits` signal, and the features."""
    if remark := remark_on_statistics(model):
        trial.progress.tell(remark)
    settings = {n: s for n, s in trial.config.signals.items() if s.recipe == "bits"}
    fitters = [_fitter(signals[name], signal) for name, signal in settings.items()]

    def after(labels: Tensor) -> None:
        for fitter in fitters:
            fitter.update(labels, trial.splits.num_classes)

    features = extract(
        model,
        trial.splits.train,
        title=f"fit seed {trial.seed}",
        watching=[fitter.watching for fitter in fitters],
        after=after,
        progress=trial.progress,
    )
    if current().leads:
        features.save(trial.run.paths.features(trial.seed, "id_train"))
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


def _calibrate(trial: Trial, model: Classifier, signals: Mapping[str, WrappedModel]) -> None:
    """One pass over ID calibration: the ID distribution of every signal."""
    recorders = {name: TraceRecorder(wrapped) for name, wrapped in signals.items()}
    features = extract(
        model,
        trial.splits.calibration,
        title=f"calibrate seed {trial.seed}",
        watching=[recorder.watching for recorder in recorders.values()],
        progress=trial.progress,
    )
    if current().leads:
        features.save(trial.run.paths.features(trial.seed, "id_calibration"))
    for name, recorder in recorders.items():
        method = trial.config.signals[name].aggregation
        layers = recorder.layers()
        if current().leads:
            signals[name].set_calibration(layers, method=method)
