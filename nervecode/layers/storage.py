"""Save and load the coders and the calibration of a wrapped model: safetensors, never pickle."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nervecode.errors import ArtifactError, InputError, did_you_mean
from nervecode.layers.coder import coder_from_spec

if TYPE_CHECKING:
    from nervecode.layers.wrap import WrappedModel

FORMAT = "nervecode-1"


def pack(wrapped: WrappedModel) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Coders and calibration as a plain JSON header and tensors."""
    tensors = {f"coders.{k}": v.contiguous() for k, v in wrapped.coders.state_dict().items()}
    header: dict[str, Any] = {"coders": wrapped.coder_specs()}
    calibration = wrapped._calibration
    if calibration is not None:
        tensors |= {f"calibration.{n}": p.contiguous() for n, p in calibration.layers.items()}
        header["method"] = calibration.method
        header["layers"] = list(calibration.layers)
    return header, tensors


def unpack(
    header: dict[str, Any], tensors: dict[str, Tensor], model: nn.Module, *, source: str
) -> WrappedModel:
    """The reverse of `pack`; `source` names the file in errors."""
    from nervecode.layers.wrap import WrappedModel

    specs: dict[str, Any] = header["coders"]
    names = [name for name, _ in model.named_modules()]
    for layer in specs:
        if layer.split("#")[0] not in names:
            raise InputError(
                f"{source}: made for a model with a layer {layer!r}; "
                f"{type(model).__name__}: {did_you_mean(layer, filter(None, names))}"
            )
    wrapped = WrappedModel(model, {name: coder_from_spec(spec) for name, spec in specs.items()})
    try:
        wrapped.coders.load_state_dict(part(tensors, "coders."))
    except RuntimeError as error:
        raise ArtifactError(
            f"{source}: the tensors do not fit their description ({error})"
        ) from None
    wrapped.coders.to(wrapped._device)
    if "method" in header:
        layers = {name: tensors[f"calibration.{name}"] for name in header["layers"]}
        wrapped.set_calibration(layers, method=header["method"])
    return wrapped


def save(wrapped: WrappedModel, path: str | Path) -> None:
    """Write coders and calibration to a safetensors file, through a temporary name."""
    path = Path(path)
    header, tensors = pack(wrapped)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata={"format": FORMAT, "header": json.dumps(header)})
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load(path: str | Path, model: nn.Module) -> WrappedModel:
    """Wrap a model with the coders and the calibration that `WrappedModel.save` wrote.

    Args:
        path: the file.
        model: a model with the layers that the file was made for.

    Raises:
        ArtifactError: the file is missing, damaged, or of another kind.
        InputError: the model lacks a layer of the file; the first one is named.
    """
    header, tensors = read_tensors(Path(path), FORMAT)
    return unpack(header, tensors, model, source=str(path))


def read_tensors(path: Path, expected: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a safetensors file of an expected format.

    Raises:
        ArtifactError: the file is missing, damaged, or of another format.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file") from None
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: not a readable safetensors file ({error})") from None
    if metadata.get("format") != expected:
        found = metadata.get("format")
        raise ArtifactError(f"{path}: found format {found!r}, allowed: {expected!r}")
    return json.loads(metadata["header"]), tensors


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix, without it."""
    return {key[len(prefix) :]: t for key, t in tensors.items() if key.startswith(prefix)}
