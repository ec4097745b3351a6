"""Coders and calibration of a watched model as tensors and files: safetensors, never pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nervecode.errors import ArtifactError, InputError, NervecodeError, did_you_mean
from nervecode.files import absent, replacing
from nervecode.layers.coder import Coder
from nervecode.layers.coders.spec import coder_from_spec
from nervecode.layers.guard.condition import CHANGED
from nervecode.layers.layout import output_layout
from nervecode.layers.names import bare_names, key_of, module_name
from nervecode.layers.state import (
    check_architecture,
    full_names,
    header_of,
    restore_state,
    tensors_of,
    translated,
)
from nervecode.layers.watched import Watched

FORMAT = "nervecode-1"
W = TypeVar("W", bound=Watched)


def pack(watched: Watched) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Coders and calibration as a plain JSON header and tensors.

    Layers have the names that they have without what wraps the model, as `torch.compile` does.
    """
    tensors = {f"coders.{k}": v.contiguous() for k, v in watched.coders.state_dict().items()}
    tensors |= tensors_of(watched)
    return translated(header_of(watched), tensors, bare_names(watched.model))


def unpack(
    header: dict[str, Any],
    tensors: dict[str, Tensor],
    model: nn.Module,
    make: Callable[[nn.Module, dict[str, Coder]], W],
    *,
    source: str,
) -> W:
    """The reverse of `pack`: what `make` makes of the model and its coders, and the calibration.

    Args:
        header: as `pack` gave it.
        tensors: likewise.
        model: a model with the layers that these were made for.
        make: a class of watched models.
        source: where header and tensors are from, for errors.

    Raises:
        InputError: another architecture; its first difference is named.
        ArtifactError: a header and tensors that do not fit each other.
    """
    try:
        header, tensors = translated(header, tensors, full_names(model))
        watched = make(model, _coders(header, tensors, model, source))
        restore_state(watched, header, tensors)
    except NervecodeError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ArtifactError(
            f"{source}: the tensors do not fit their description ({error!r})"
        ) from None
    return watched


def _coders(
    header: dict[str, Any], tensors: dict[str, Tensor], model: nn.Module, source: str
) -> dict[str, Coder]:
    specs: dict[str, Any] = header["coders"]
    for layer, spec in specs.items():
        _check_layer(model, layer, spec["reducer"]["width"], source)
    check_architecture(model, header, source)
    coders = {name: coder_from_spec(spec) for name, spec in specs.items()}
    state = part(tensors, "coders.")
    nn.ModuleDict({key_of(name): coder for name, coder in coders.items()}).load_state_dict(state)
    return coders


def _check_layer(model: nn.Module, layer: str, width: int | None, source: str) -> None:
    """The layer is there, and as wide as the one that the file was made for."""
    modules = {name: module for name, module in model.named_modules() if name}
    name = module_name(layer)
    if name not in modules:
        raise InputError(
            f"{source}: made for a model with a layer {layer!r}; "
            f"{type(model).__name__}: {did_you_mean(layer, modules)}"
        )
    own = output_layout(modules[name]).width
    if None not in (own, width) and own != width:
        raise InputError(
            f"{source}: made for a layer {layer!r} of width {width}; "
            f"{type(model).__name__} has one of width {own}"
        )


def save(watched: Watched, path: str | Path) -> None:
    """Write coders and calibration to a safetensors file, through a temporary name."""
    if not watched.condition.has_weights_of(watched.model, rehash=True):
        watched._remarks.tell(f"save: {CHANGED}", again=True)
    header, tensors = pack(watched)
    header["sha256"] = content_digest(header, tensors)
    with replacing(Path(path)) as temporary:
        save_file(tensors, temporary, metadata=metadata(FORMAT, header))


def metadata(format: str, header: dict[str, Any]) -> dict[str, str]:
    """A safetensors file's metadata: one key, since safetensors writes several in random order."""
    return {"nervecode": json.dumps({"format": format, "header": header})}


def read_tensors(path: Path, expected: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a safetensors file of an expected format.

    The content is compared with the hash in the header; files from before may have none.

    Raises:
        ArtifactError: the file is missing, damaged, or of another format.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("nervecode", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise ArtifactError(absent(path)) from None
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: not a readable safetensors file ({error})") from None
    if not isinstance(about, dict) or about.get("format") != expected:
        actual = about.get("format") if isinstance(about, dict) else about
        raise ArtifactError(f"{path}: found format {actual!r}, allowed: {expected!r}")
    if not isinstance(about.get("header"), dict):
        raise ArtifactError(f"{path}: the header is damaged")
    header = about["header"]
    if "sha256" in header and header["sha256"] != content_digest(header, tensors):
        raise ArtifactError(f"{path}: is damaged (its SHA-256 is not the one in its header)")
    return header, tensors


def content_digest(header: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """SHA-256 of header and tensors, without that hash; safetensors has no checksum of its own."""
    own = {key: value for key, value in header.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)}".encode())
        values = tensors[name].detach().cpu().contiguous().reshape(-1)
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix, without it."""
    return {key[len(prefix) :]: t for key, t in tensors.items() if key.startswith(prefix)}
