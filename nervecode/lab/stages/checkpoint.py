"""Checkpoints and calibrations of one seed: classifier and signals, packed and read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from nervecode.errors import ArtifactError
from nervecode.files import replacing
from nervecode.lab.models.build import empty_model
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.user_code import check_unchanged
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.meta import user_code
from nervecode.lab.schema import PRIMARY
from nervecode.lab.stages.signature import Signature
from nervecode.layers import WrappedModel
from nervecode.layers.state import stored_calibration
from nervecode.layers.storage import metadata, pack, part, read_tensors
from nervecode.layers.wrap import restore
from nervecode.scoring.layer_calibration import LayerCalibration

FORMAT = "nervecode-checkpoint-1"
CALIBRATION_FORMAT = "nervecode-calibration-1"


@dataclass(frozen=True)
class Trained:
    """A trained classifier and signals that watch it."""

    model: Classifier
    signals: dict[str, WrappedModel]

    @property
    def calibrations(self) -> dict[str, LayerCalibration]:
        """Those of the signals that are calibrated, by name."""
        known = {name: wrapped.calibration for name, wrapped in self.signals.items()}
        return {name: calibration for name, calibration in known.items() if calibration}


def load_checkpoint(run: RunDir, path: Path, *, device: torch.device) -> Trained:
    """The classifier and the learned signals of a checkpoint; the data of the run are not read.

    Raises:
        ArtifactError: the file is damaged, or made for another model.
    """
    header, tensors = read_tensors(path, FORMAT)
    config, made_for = run.config, Signature.of(run)
    model = empty_model(config.model, made_for.shape, len(made_for.classes))
    try:
        model.load_state_dict(part(tensors, "model."))
    except RuntimeError as error:
        raise ArtifactError(f"{path}: does not fit model {config.model.name!r} ({error})") from None
    model.to(device).eval()
    return Trained(model, unpack_signals(header, tensors, model, source=str(path)))


def pack_signals(
    signals: Mapping[str, WrappedModel],
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of several signals, each below its name."""
    tensors: dict[str, Tensor] = {}
    header: dict[str, Any] = {"signals": {}}
    for name, wrapped in signals.items():
        header["signals"][name], parts = pack(wrapped)
        tensors |= {f"signals.{name}.{key}": tensor for key, tensor in parts.items()}
    return header, tensors


def unpack_signals(
    header: dict[str, Any], tensors: dict[str, Tensor], model: Classifier, *, source: str
) -> dict[str, WrappedModel]:
    """The signals that a header describes, watching a model."""
    return {
        name: restore(spec, part(tensors, f"signals.{name}."), model, source=source)
        for name, spec in header["signals"].items()
    }


def write_calibration(path: Path, signals: Mapping[str, WrappedModel]) -> None:
    """Write fitted codes and calibration of several signals, with the held-out scores.

    The scores follow from the rest; they are kept for who reads the file without torch.
    """
    header, tensors = pack_signals(signals)
    for name, wrapped in signals.items():
        if wrapped.calibration is not None:
            tensors[f"signals.{name}.ranked_scores"] = wrapped.calibration.scores.contiguous()
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=metadata(CALIBRATION_FORMAT, header))


def load_calibration(run: RunDir, seed: int) -> LayerCalibration:
    """The calibration of a seed's primary signal, without its model.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    path = run.verified(run.paths.calibration(seed))
    header, tensors = read_tensors(path, CALIBRATION_FORMAT)
    signal = header["signals"][PRIMARY]
    calibration = stored_calibration(signal, part(tensors, f"signals.{PRIMARY}."))
    assert calibration is not None
    return calibration


def load_calibrated(run: RunDir, seed: int, *, device: torch.device) -> Trained:
    """The classifier of a seed, with every signal fitted and calibrated.

    Raises:
        ArtifactError: checkpoint or calibration are missing or damaged, or the model's code is not
            what the run was trained with.
        InputError: code that nobody trusts.
    """
    check_unchanged(run.config.model.name, user_code(run.meta))
    checkpoint = run.verified(run.paths.checkpoint(seed))
    model = load_checkpoint(run, checkpoint, device=device).model
    path = run.verified(run.paths.calibration(seed))
    header, tensors = read_tensors(path, CALIBRATION_FORMAT)
    signals = unpack_signals(header, tensors, model, source=str(path))
    return Trained(model, {name: signals[name] for name in run.config.signals})
