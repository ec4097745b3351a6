"""The stage `train`: a classifier, and the codebooks that are learned with it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from nervecode.lab.checkpoint import FORMAT, pack_signals
from nervecode.lab.data import Splits
from nervecode.lab.files import read_json, replacing, sha256, write_json, write_text
from nervecode.lab.models import Classifier, build_model
from nervecode.lab.progress import Progress
from nervecode.lab.resume import load_training, save_training
from nervecode.lab.run import RunDir
from nervecode.lab.schema import Config
from nervecode.lab.signals import build_signals
from nervecode.lab.trainer import Row, Trainer
from nervecode.layers import WrappedModel
from nervecode.layers.storage import metadata

SAVE_SECONDS = 2.0  # short epochs share a resume file: an interrupt costs no more than that


def train_seed(
    run: RunDir, splits: Splits, seed: int, *, device: torch.device, progress: Progress
) -> bool:
    """Train one seed of a run, or skip it if it is done; returns whether it was done now."""
    config = run.config
    learned = {n: s.model_dump() for n, s in config.signals.items() if s.recipe == "v0_1_1"}
    # Without defaults, so that a key that a later release adds does not repeat the training.
    sections = config.model_dump(
        mode="json", include={"data", "model", "train"}, exclude_defaults=True
    )
    for group in ("near", "far", "shift"):  # the classifier never sees them
        sections["data"].pop(group, None)
    inputs = {**sections, "signals": learned, "seed": seed}

    def work() -> list[Path]:
        trainer, epochs = fit_classifier(
            config, splits, seed, device=device, progress=progress,
            resume=run.resume(seed), identity=digest(inputs), log=run.log,
        )  # fmt: skip
        model, signals, layers = trainer.model, trainer.signals, trainer.layer_rows
        _write_csv(run.metrics(seed), epochs)
        _write_checkpoint(run, seed, model, signals, epochs[-1])
        written = [run.metrics(seed), run.checkpoint(seed)]
        if layers:
            _write_csv(run.diagnostics(seed), layers)
            written.append(run.diagnostics(seed))
        run.resume(seed).unlink(missing_ok=True)
        return written

    return run.stage("train", seed, inputs, work)


def fit_classifier(
    config: Config,
    splits: Splits,
    seed: int,
    *,
    device: torch.device,
    progress: Progress,
    resume: Path,
    identity: str,
    log: Callable[..., None],
) -> tuple[Trainer, list[Row]]:
    """Task loss plus coding loss, from where an interrupted training stood; the epochs' rows.

    Raises:
        NervecodeError: the loss became NaN or infinite; the last good epoch stays in `resume`.
    """
    torch.manual_seed(seed)
    model = build_model(config.model, splits.train, splits.num_classes).to(device)
    signals = build_signals(config, model, recipe="v0_1_1")
    trainer = Trainer(model, signals, config.train, splits.train, seed=seed, device=device)
    rows = load_training(resume, trainer, identity)
    if rows:
        log("resume", stage=f"train/seed_{seed}", epochs=len(rows))
    skipped = f" after epoch {len(rows)}" if rows else ""
    steps = trainer.steps_per_epoch * (config.train.epochs - len(rows))
    progress.start(f"train seed {seed}{skipped}", steps)
    saved = time.monotonic()
    for number in range(len(rows) + 1, config.train.epochs + 1):
        rows.append(trainer.epoch(number, progress))
        if number < config.train.epochs and time.monotonic() - saved >= SAVE_SECONDS:
            save_training(resume, trainer, rows, identity)
            saved = time.monotonic()
    return trainer, rows


def digest(inputs: Any) -> str:
    """SHA-256 of plain values: what a training was asked to do."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _write_checkpoint(
    run: RunDir, seed: int, model: Classifier, signals: Mapping[str, WrappedModel], last: Row
) -> None:
    header, tensors = pack_signals(signals)
    tensors |= {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    path = run.checkpoint(seed)
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=metadata(FORMAT, header))
    manifest_path = path.parent / "checkpoint_manifest.json"
    manifest = read_json(manifest_path) if manifest_path.exists() else {}
    manifest[path.name] = {
        "sha256": sha256(path),
        "bytes": path.stat().st_size,
        "seed": seed,
        "epochs": last["epoch"],
        "train_accuracy": last["accuracy"],
    }
    write_json(manifest_path, manifest)


def _write_csv(path: Path, rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
