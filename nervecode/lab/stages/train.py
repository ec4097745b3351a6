"""The stage `train`: a classifier, and the codebooks that are learned with it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch.nn import functional as F

from nervecode.errors import ArtifactError, InputError, NervecodeError
from nervecode.files import csv_text, read_json, replacing, write_json, write_text
from nervecode.files import sha256 as file_sha256
from nervecode.lab.machine.interrupt import deferred
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.features import extract
from nervecode.lab.models.foreign import foreign_classifier
from nervecode.lab.models.user_code import find_source
from nervecode.lab.models.weights import find_weights
from nervecode.lab.ranks.job import current
from nervecode.lab.run.paths import MANIFEST, stage_key
from nervecode.lab.stages.checkpoint import FORMAT, pack_signals
from nervecode.lab.stages.same_data import note_data
from nervecode.lab.stages.trial import Trial
from nervecode.lab.trainer.build import build_trainer
from nervecode.lab.trainer.resume import load_training, save_training
from nervecode.lab.trainer.trainer import Diverged, Row, Trainer
from nervecode.layers import WrappedModel
from nervecode.layers.storage import metadata

SAVE_SECONDS = 2.0  # short epochs share a resume file: an interrupt costs no more than that


def train_seed(trial: Trial) -> bool:
    """Train one seed of a run, or skip it if it is done; returns whether it was done now.

    Raises:
        InputError: the seed's checkpoint was imported for other settings.
    """
    run, seed, inputs = trial.run, trial.seed, _inputs(trial)
    before = _done(trial)

    def work() -> list[Path]:
        if "imported" in inputs:
            raise InputError(
                f"seed {seed}: its checkpoint was imported for other settings; import it again"
            )
        if before:
            trial.progress.tell(
                f"seed {seed}: trained again in the place of the former training, as it differs in "
                f"{', '.join(_differing(before, json.loads(json.dumps(inputs))))}"
            )
        trainer = build_trainer(trial.config, trial.splits, seed, device=trial.device)
        try:
            epochs = _Store(trial, digest(inputs)).train(trainer)
        except Diverged as error:
            raise Diverged(f"seed {seed}: {error}") from None
        if not current().leads:
            return []
        write_text(run.paths.metrics(seed), csv_text(epochs))
        _write_checkpoint(trial, trainer.model, trainer.signals, epochs[-1])
        written = [run.paths.metrics(seed), run.paths.checkpoint(seed)]
        if trainer.layer_rows:
            write_text(run.paths.diagnostics(seed), csv_text(trainer.layer_rows))
            written.append(run.paths.diagnostics(seed))
        run.paths.resume(seed).unlink(missing_ok=True)
        return written

    return run.stage("train", seed, inputs, work)


def _inputs(trial: Trial) -> dict[str, Any]:
    """What the training of a seed depends on."""
    model = trial.config.model
    inputs = {**trial.config.training_inputs(), "seed": trial.seed}
    if source := find_source(model.name):
        inputs["code"] = source.record()
    if model.weights is not None:
        inputs["weights"] = _weights_sha256(model.weights, trial)
    if imported := trial.run.meta.get("imported", {}).get(str(trial.seed)):
        inputs["imported"] = imported["sha256"]
    if _done(trial) == json.loads(json.dumps(inputs)):
        return inputs  # by an older release, of rows that were compared with those of its run
    return {**inputs, "id_train": trial.splits.train.fingerprint}


def _done(trial: Trial) -> Mapping[str, Any]:
    """What the training of a seed depended on when it was done."""
    record = trial.run.meta["stages"].get(stage_key("train", trial.seed), {"inputs": {}})
    inputs: Mapping[str, Any] = record["inputs"]
    return inputs


def _differing(before: Mapping[str, Any], inputs: Mapping[str, Any]) -> list[str]:
    """The dotted keys in which two trainings differ."""
    names: list[str] = []
    for key in sorted({*before, *inputs}):
        one, other = before.get(key), inputs.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            names += [f"{key}.{name}" for name in _differing(one, other)]
        elif one != other:
            names.append(key)
    return names


def _weights_sha256(weights: str, trial: Trial) -> str:
    """Of the file that training begins with; what is trained needs it no more."""
    done = _done(trial)
    try:
        return file_sha256(find_weights(weights))
    except InputError:
        if "weights" not in done:
            raise
        return str(done["weights"])


def import_seed(trial: Trial, path: Path, *, uri: str | None, sha256: str | None) -> None:
    """Take a classifier that was trained elsewhere for one seed of a run.

    Raises:
        InputError: as `foreign_classifier`.
    """
    run, seed, train = trial.run, trial.seed, trial.splits.train
    model = foreign_classifier(trial.config, trial.splits, seed, path, sha256=sha256)
    seen = extract(model.to(trial.device), train, title="import", progress=trial.progress)
    loss = float(F.cross_entropy(seen.logits, seen.labels))
    right = float((seen.predictions == seen.labels).double().mean())
    row: Row = {"epoch": 0, "loss": loss, "task_loss": loss, "coding_loss": 0.0,
                "accuracy": right, "lr": 0.0, "samples_per_second": 0.0}  # fmt: skip
    trial.progress.tell(f"seed {seed}: {right:.1%} of ID train are classified right")
    source = {"file": path.name, "uri": uri, "sha256": file_sha256(path)}
    run.update(imported={**run.meta.get("imported", {}), str(seed): source})
    note_data(run, trial.splits, ("train",), progress=trial.progress)

    def work() -> list[Path]:
        write_text(run.paths.metrics(seed), csv_text([row]))
        _write_checkpoint(trial, model, {}, row)
        return [run.paths.metrics(seed), run.paths.checkpoint(seed)]

    run.stage("train", seed, _inputs(trial), work)


@dataclass(frozen=True)
class _Store:
    """The resume file of one seed, and the training around it.

    Attributes:
        identity: what the training was asked to do; a file of another is not used.
    """

    trial: Trial
    identity: str

    def train(self, trainer: Trainer) -> list[Row]:
        """Train from where an interrupted training stood; the epochs' rows.

        Raises:
            Diverged: the loss became NaN or infinite; the last epoch that was saved stays.
            Interrupted: a signal came; the training is saved as it stood after the step.
        """
        run, seed, progress = self.trial.run, self.trial.seed, self.trial.progress
        rows = self._load(trainer)
        _check_position(trainer, rows)
        epochs = trainer.config.epochs
        steps = trainer.steps_per_epoch * (epochs - len(rows)) - len(trainer.done)
        if epochs > len(rows):  # before steps are timed, and while a signal still ends it at once
            trainer.prepare(len(rows) + 1, progress)
        progress.start(f"train seed {seed}", steps)
        saved = time.monotonic()
        job = trainer.job
        with deferred(job.most) as stopping:
            while len(rows) < epochs:
                row = trainer.epoch(len(rows) + 1, progress, stopping)
                if row is not None:
                    rows.append(row)
                short = time.monotonic() - saved < SAVE_SECONDS or len(rows) == epochs
                stop = stopping()
                if job.share(stop or not short):
                    save_training(run.paths.resume(seed), trainer, rows, self.identity)
                    job.share(None)  # a disk may take its time
                    saved = time.monotonic()
                if row is not None:
                    layers = [r for r in trainer.layer_rows if r["epoch"] == row["epoch"]]
                    progress.epoch(seed, row, layers, of=epochs)
                if stop:
                    progress.tell(f"seed {seed}: saved {_position(trainer, rows)}")
                    job.part()
                    break
        return rows

    def _load(self, trainer: Trainer) -> list[Row]:
        run, seed, progress = self.trial.run, self.trial.seed, self.trial.progress
        stage = stage_key("train", seed)
        try:
            rows = load_training(run.paths.resume(seed), trainer, self.identity)
        except ArtifactError as error:
            run.log("resume_refused", stage=stage, error=str(error))
            progress.tell(f"seed {seed}: starts over: {error}")
            return []
        if rows or trainer.done:
            run.log("resume", stage=stage, epochs=len(rows), steps=len(trainer.done))
            progress.tell(f"seed {seed}: goes on {_position(trainer, rows)}")
        return rows


def _check_position(trainer: Trainer, rows: list[Row]) -> None:
    """Refuse to train together from different places."""
    here = [len(rows), len(trainer.done)]
    first = trainer.job.share(here)
    if here != first:
        raise NervecodeError(
            f"resume: rank {trainer.job.rank} stands at epoch and step {here}, rank 0 at {first}; "
            "the run must lie on a file system that all processes share"
        )


def _position(trainer: Trainer, rows: list[Row]) -> str:
    step = f" and step {len(trainer.done)}" if trainer.done else ""
    return f"after epoch {len(rows)} of {trainer.config.epochs}{step}"


def digest(inputs: Any) -> str:
    """SHA-256 of plain values: what a training was asked to do."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _write_checkpoint(
    trial: Trial, model: Classifier, signals: Mapping[str, WrappedModel], last: Row
) -> None:
    header, tensors = pack_signals(signals)
    tensors |= {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    path = trial.run.paths.checkpoint(trial.seed)
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=metadata(FORMAT, header))
    manifest_path = trial.run.root / MANIFEST
    manifest = read_json(manifest_path) if manifest_path.exists() else {}
    known = {n: trial.run.recorded(path.with_name(n)) for n in manifest}  # of other seeds
    manifest = {n: about for n, about in manifest.items() if about["sha256"] == known[n]}
    manifest[path.name] = {
        "sha256": file_sha256(path),
        "bytes": path.stat().st_size,
        "seed": trial.seed,
        "epochs": last["epoch"],
        "train_accuracy": last["accuracy"],
    }
    write_json(manifest_path, manifest)
