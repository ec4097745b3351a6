"""Resume: a training as it stood after its last epoch, in one safetensors file, without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from nervecode.errors import ArtifactError
from nervecode.files import replacing
from nervecode.lab.trainer import Row, Trainer
from nervecode.layers.storage import metadata, part, read_tensors

FORMAT = "nervecode-training-1"


def save_training(path: Path, trainer: Trainer, rows: list[Row], identity: str) -> None:
    """Write everything that the next epoch depends on.

    Args:
        path: the file; it is replaced at once or not at all.
        trainer: after an epoch.
        rows: the rows of the epochs so far.
        identity: what the training was asked to do; `load_training` refuses another.
    """
    optimizer = trainer.optimizer.state_dict()
    header = {
        "identity": identity,
        "rows": rows,
        "layer_rows": trainer.layer_rows,
        "schedule": _plain(trainer.schedule.state_dict()),
        "groups": optimizer["param_groups"],
    }
    tensors = {f"model.{k}": v for k, v in trainer.model.state_dict().items()}
    for name, wrapped in trainer.signals.items():
        coders = wrapped.coders.state_dict()
        tensors |= {f"signals.{name}.{k}": v for k, v in coders.items()}
    for index, state in optimizer["state"].items():
        # Plain numbers and None are what the optimiser makes anew.
        held = {k: v for k, v in state.items() if isinstance(v, Tensor)}
        tensors |= {f"optimizer.{index}.{k}": v for k, v in held.items()}
    tensors |= {"random.trainer": trainer.random.get_state(), "random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(whole, temporary, metadata=metadata(FORMAT, header))


def load_training(path: Path, trainer: Trainer, identity: str) -> list[Row]:
    """Put a fresh trainer where a training stood; returns the rows of its epochs.

    Empty, and the trainer as it was, where there is no such file, where it is damaged, or where it
    belongs to a training of other settings: what it would have saved is done again.
    """
    try:
        header, tensors = read_tensors(path, FORMAT)
    except ArtifactError:
        return []
    if header["identity"] != identity:
        return []
    trainer.model.load_state_dict(part(tensors, "model."))
    for name, wrapped in trainer.signals.items():
        wrapped.coders.load_state_dict(part(tensors, f"signals.{name}."))
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in part(tensors, "optimizer.").items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    trainer.optimizer.load_state_dict({"state": state, "param_groups": header["groups"]})
    trainer.schedule.load_state_dict(header["schedule"])
    trainer.layer_rows = header["layer_rows"]
    trainer.random.set_state(tensors["random.trainer"])
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    rows: list[Row] = header["rows"]
    return rows


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """What of a schedule's state is numbers; the rest are functions that it makes anew."""
    return {k: v for k, v in state.items() if isinstance(v, (int, float, str, list, type(None)))}
