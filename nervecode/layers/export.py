"""Export: a calibrated wrapped model as one graph, from the inputs to the flag."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from nervecode import __version__
from nervecode.errors import InputError, NotReadyError, did_you_mean, need_extra
from nervecode.files import replacing
from nervecode.layers.batch.parts import given_mask
from nervecode.layers.graph import CodesGraph, Graph, layer_inputs
from nervecode.layers.program import refused_example, to_onnx, trace, try_out
from nervecode.layers.watched import Watched

GRAPH_SUFFIXES = (".onnx", ".pt2")
MAX_ONNX = 2**31 - 2**20  # bytes of weights: the format's limit, less what else is in a file
METADATA = "nervecode.json"  # its name in a .pt2 file; .onnx files have properties
ONNX_TYPES = (
    *(torch.float16, torch.float32, torch.float64, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
)  # that ONNX Runtime computes with

Example = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]


class ExportOptions(TypedDict, total=False):
    """What an export can be told; see `export`."""

    dynamic_batch: bool
    codes_only: bool
    mask: Tensor | None
    metadata: Mapping[str, Any] | None


def export(
    watched: Watched,
    path: str | Path,
    example: Example,
    *,
    dynamic_batch: bool = True,
    codes_only: bool = False,
    mask: Tensor | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a model, its codes and their calibration as one graph: inputs to flag.

    The graph takes `input`, or several inputs by the names that the model gives them, and `alpha`,
    () float64; it gives `output`, `surprise`, `percentile`, `p_value`, `by_layer`, `flag` and
    `smallest_alpha`. With `mask` it takes that too, where the model is not told of padding.

    Args:
        watched: the calibrated model.
        path: `.pt2` (torch.export) or `.onnx` (needs the extra `export`).
        example: a batch of the model's inputs: a tensor, a tuple, or a mapping by name.
        dynamic_batch: the graph takes any number of inputs; False as many as the example.
        codes_only: without the model: the graph takes what the watched layers return.
        mask: (B, ...) 1 at the real positions of the example, where the model is not told of them.
        metadata: further JSON values to write into the file, by names that it has not itself.

    Returns:
        What the file says of itself.

    Raises:
        NotReadyError: before calibration.
        InputError: an unknown suffix, codes by position, an example that the model refuses or
            whose codes are not finite, or that tells of no padding where calibration did, an
            operation that has no form in the graph, metadata that is not JSON, or for ONNX more
            than 2 GB or bfloat16.
        MissingExtraError: ONNX is not installed.
    """
    path = Path(path)
    check_format(path)
    _check_ready(watched)
    if codes_only and mask is not None:
        raise InputError("export codes_only=True: the codes alone take no mask=")
    inputs = named_inputs(watched.model, example, mask)
    if dynamic_batch:  # a batch of one is doubled: a graph takes a size of 1 for a constant
        inputs = {name: torch.cat([x, x]) if len(x) == 1 else x for name, x in inputs.items()}
    given = inputs
    graph = Graph(watched, inputs, masked=mask is not None)
    if codes_only:
        with refused_example(given):
            inputs = layer_inputs(graph, inputs)
        _check_places(watched, inputs)
        graph = CodesGraph(watched)
    about = _with(_about(watched, graph, inputs), metadata or {})
    if path.suffix == ".onnx":
        _check_onnx(graph, inputs, path)
    try_out(graph, inputs, given)
    program = trace(graph, inputs, dynamic_batch)
    if path.suffix == ".onnx":
        properties = {f"nervecode.{key}": json.dumps(value) for key, value in about.items()}
        content = to_onnx(program, graph, inputs, properties, dynamic_batch)
    else:
        content = _pt2(program, about)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return about


def check_format(path: Path) -> None:
    """Refuse a file of a kind that is not, or cannot be, written; errors as `export`."""
    if path.suffix not in GRAPH_SUFFIXES:
        allowed = did_you_mean(path.suffix, GRAPH_SUFFIXES)
        raise InputError(f"export {path}: unknown suffix {path.suffix!r}; {allowed}")
    if path.suffix == ".onnx":
        for package in ("onnxscript", "onnx", "onnx_ir"):
            need_extra("export to ONNX", package, "export")


def _check_ready(watched: Watched) -> None:
    """Refuse a model that is not calibrated, or by position, or has changed since."""
    if watched.calibration is None:
        raise NotReadyError("export: not calibrated; call calibrate(loader) on held-out data first")
    if any(watched.coder(name).reducer.positions for name in watched.calibration.layers):
        raise InputError(
            "export: codes by position cannot be exported; fit without by_position=True, or call "
            "score in Python"
        )
    if complaint := watched.condition.complaint(watched.model, rehash=True):
        raise InputError(f"export: {complaint}")


def _check_onnx(graph: Graph, inputs: Mapping[str, Tensor], path: Path) -> None:
    """Refuse numbers that ONNX Runtime has no operations for, and more than the file can hold."""
    tensors = [*inputs.items(), *graph.named_parameters(), *graph.named_buffers()]
    for name, tensor in tensors:
        if tensor.dtype not in ONNX_TYPES:
            raise InputError(
                f"export {path}: found {name.removeprefix('watched.model.')!r} of {tensor.dtype}, "
                "which ONNX Runtime does not compute with; allowed: model.float(), wrapped, fitted "
                "and calibrated anew, or a .pt2 file"
            )
    size = sum(tensor.nbytes for _, tensor in tensors[len(inputs) :])
    if size > MAX_ONNX:
        raise InputError(
            f"export {path}: found {size:,} bytes of weights, allowed in an ONNX file: "
            f"{MAX_ONNX:,}; .pt2 files have no such limit"
        )


def _check_places(watched: Watched, layers: Mapping[str, Tensor]) -> None:
    """Refuse codes alone that would read padding as if it were real."""
    assert watched.calibration is not None
    name = next((name for name, activation in layers.items() if activation.ndim > 2), None)
    if watched.calibration.calls.masked and name is not None:
        raise InputError(
            "export codes_only=True: every calibration batch came with a mask of real positions, "
            f"which codes alone do not take, and layer {name!r} has positions; export the model too"
        )


def named_inputs(
    model: nn.Module, example: Example, mask: Tensor | None = None
) -> dict[str, Tensor]:
    """The inputs of a graph by name: `input`, the model's own names of several, or the given ones.

    The real positions, where the model is not told of them, are `mask`.

    Raises:
        InputError: no tensors, inputs of different batches, or two of the name `mask`.
    """
    if isinstance(example, Mapping):
        inputs = dict(example)
    elif isinstance(example, tuple):
        names = _parameter_names(model)
        if len(example) > len(names):
            raise InputError(
                f"export example: found {len(example)} inputs, allowed: at most {len(names)}, as "
                f"the model takes {', '.join(names)}"
            )
        inputs = dict(zip(names, example, strict=False))  # the others have defaults
    else:
        inputs = {"input": example}
    wrong = [name for name, value in inputs.items() if not isinstance(value, Tensor)]
    if wrong or not inputs or "alpha" in inputs:
        raise InputError(
            f"export example: found {wrong or list(inputs)}, allowed: a tensor, a tuple of tensors "
            "or a mapping of them, with another name than 'alpha'"
        )
    if mask is not None:
        if "mask" in inputs:
            raise InputError("export: found an input and an option 'mask', allowed: one of them")
        inputs["mask"] = given_mask(mask).to(next(iter(inputs.values())).device)
    sizes = {name: tuple(value.shape[:1]) for name, value in inputs.items()}
    if len(set(sizes.values())) > 1 or () in sizes.values() or (0,) in sizes.values():
        raise InputError(f"export example: found batches {sizes}, allowed: one size, at least 1")
    return inputs


def _parameter_names(model: nn.Module) -> list[str]:
    several = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    parameters = signature(model.forward).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind not in several]


def _about(watched: Watched, graph: Graph, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a file says of itself, as plain JSON values."""
    calibration = watched.calibration
    assert calibration is not None
    return {
        "version": __version__,
        "calibration_inputs": calibration.num_samples,
        "smallest_alpha": calibration.smallest_alpha,
        "by_class": calibration.by_class,
        "weighted": calibration.weights is not None,
        "method": calibration.method,
        "layers": list(calibration.layers),
        "weights": watched.condition.digest,
        "inputs": {name: _open_shape(x, graph.batch_dim(name)) for name, x in inputs.items()},
    }


def _open_shape(x: Tensor, batch_dim: int) -> list[int | None]:
    """The shape of an input, with None for the batch."""
    return [None if dim == batch_dim else size for dim, size in enumerate(x.shape)]


def _with(about: dict[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says of itself, and what it is to say besides.

    Raises:
        InputError: a name that is taken, or a value that is not JSON.
    """
    if not isinstance(metadata, Mapping):
        raise InputError(
            f"export metadata: found {type(metadata).__name__}, allowed: a mapping of names"
        )
    for key, value in metadata.items():
        if not isinstance(key, str) or key in about:
            raise InputError(
                f"export metadata: found the name {key!r}, allowed: a text other than "
                f"{', '.join(about)}, which the file says of itself"
            )
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"export metadata {key!r}: allowed: JSON values, without NaN or infinity ({error})"
            ) from None
    return {**about, **metadata}


def _pt2(program: ExportedProgram, about: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={METADATA: json.dumps(about)})
    return file.getvalue()
