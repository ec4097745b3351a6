"""Resume: a training as it stood after a step, in one safetensors file, without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from nervecode.errors import ArtifactError, InputError
from nervecode.files import replacing
from nervecode.lab.ranks.job import current
from nervecode.lab.trainer.trainer import Row, Trainer
from nervecode.layers.storage import content_digest, metadata, part, read_tensors

FORMAT = "nervecode-training-2"


def save_training(path: Path, trainer: Trainer, rows: list[Row], identity: str) -> None:
    """Write everything that the next step depends on; every rank takes part, the first writes.

    Args:
        path: the file; it is replaced at once or not at all.
        trainer: after a step.
        rows: the rows of the finished epochs.
        identity: what the training was asked to do; `load_training` refuses another.
    """
    trainer.pool(keep=trainer.job.leads)
    tensors = _tensors(trainer) | _random_states()
    if not trainer.job.leads:
        return
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    header = {
        "identity": identity,
        "world": trainer.job.world,
        "rows": rows,
        "layer_rows": trainer.layer_rows,
        "rate": trainer.rate,
        "schedule": _plain(trainer.schedule.state_dict()),
        "groups": trainer.optimizer.state_dict()["param_groups"],
    }
    header["sha256"] = content_digest(header, tensors)
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=metadata(FORMAT, header))


def load_training(path: Path, trainer: Trainer, identity: str) -> list[Row]:
    """Put a fresh trainer where a training stood; returns the rows of its finished epochs.

    Empty where there is no such file.

    Raises:
        ArtifactError: the file is damaged, or belongs to a training of other settings; the trainer
            is as it was.
        InputError: another number of processes began the training, and none may go on.
    """
    if not path.exists():
        return []
    header, tensors = read_tensors(path, FORMAT)
    if "sha256" not in header:
        raise ArtifactError(f"{path}: is damaged (it has no SHA-256 of its content)")
    if header["identity"] != identity:
        raise ArtifactError(f"{path}: belongs to a training of other settings")
    _check_world(path, header.get("world", 1))
    trainer.model.load_state_dict(part(tensors, "model."))
    for name, wrapped in trainer.signals.items():
        wrapped.coders.load_state_dict(part(tensors, f"signals.{name}."))
    trainer.objective.load_state_dict(part(tensors, "objective."))
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in part(tensors, "optimizer.").items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    trainer.optimizer.load_state_dict({"state": state, "param_groups": header["groups"]})
    trainer.schedule.load_state_dict(header["schedule"])
    _load_position(trainer, header, tensors)
    rows: list[Row] = header["rows"]
    return rows


def _check_world(path: Path, began: int) -> None:
    job = current()
    if began != job.world and not job.any_world:
        raise InputError(
            f"{path}: was begun by {_processes(began)}, found: {_processes(job.world)}, whose "
            "results would differ by rounding; take as many as before, or allow it with "
            "--allow-world-size-change"
        )


def _processes(count: int) -> str:
    return f"{count} process{'es' * (count > 1)}"


def _load_position(trainer: Trainer, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Where in the epoch the training stood, and the random numbers that it had left."""
    device = trainer.inputs.device
    trainer.start, trainer.rate = tensors["random.trainer"], header["rate"]
    done, leads = tensors.get("done", torch.zeros(0, 3)), float(trainer.job.leads)
    trainer.done = list(done.to(device) * leads)  # of all ranks, kept by the first
    trainer.layer_rows = header["layer_rows"]
    sums = {n: tensor.to(device) * leads for n, tensor in part(tensors, "diagnostics.").items()}
    trainer.diagnostics.load_state_dict(sums)
    states = part(tensors, "random.")
    torch.set_rng_state(_of_this_rank(states["cpu"], torch.get_rng_state()))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(_of_this_rank(states["cuda"], torch.cuda.get_rng_state()))


def _of_this_rank(states: Tensor, fresh: Tensor) -> Tensor:
    """The state of this rank out of (world, n), or (n,) of one; a new rank begins afresh."""
    rows, rank = states.view(-1, states.shape[-1]), current().rank
    return rows[rank].clone() if rank < len(rows) else fresh  # PyTorch reads no part of a tensor


def _random_states() -> dict[str, Tensor]:
    """Of PyTorch's global generators: (n,), or (world, n) on the first of several ranks."""
    states = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["random.cuda"] = torch.cuda.get_rng_state()
    job = current()
    if job.world == 1:
        return states
    return {name: job.gather(state.unsqueeze(0)) for name, state in states.items()}


def _tensors(trainer: Trainer) -> dict[str, Tensor]:
    tensors = {f"model.{k}": v for k, v in trainer.model.state_dict().items()}
    tensors |= {f"objective.{k}": v for k, v in trainer.objective.state_dict().items()}
    for name, wrapped in trainer.signals.items():
        coders = wrapped.coders.state_dict()
        tensors |= {f"signals.{name}.{k}": v for k, v in coders.items()}
    for index, state in trainer.optimizer.state_dict()["state"].items():
        # Plain numbers and None are what the optimiser makes anew.
        held = {k: v for k, v in state.items() if isinstance(v, Tensor)}
        tensors |= {f"optimizer.{index}.{k}": v for k, v in held.items()}
    tensors |= {f"diagnostics.{k}": v for k, v in trainer.diagnostics.state_dict().items()}
    if trainer.done:
        tensors["done"] = torch.stack(trainer.done)
    return tensors | {"random.trainer": trainer.start}


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """What of a schedule's state is numbers; the rest are functions that it makes anew."""
    return {k: v for k, v in state.items() if isinstance(v, (int, float, str, list, type(None)))}
