"""Export: a calibrated wrapped model as one graph, from the inputs to the flag."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from inspect import signature
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from nervecode.errors import InputError, NotReadyError, did_you_mean, need_extra
from nervecode.files import replacing
from nervecode.layers.graph import OUTPUTS, CodesGraph, Graph, layer_inputs
from nervecode.layers.watched import Watched

SUFFIXES = (".onnx", ".pt2")
MAX_ONNX = 2**31 - 2**20  # bytes of weights: the format's limit, less what else is in a file
METADATA = "nervecode.json"  # its name in a .pt2 file; .onnx files have properties
ALONE = "codes_only=True exports the codes alone, from the layers' activations to the flag"

Example = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]


class ExportOptions(TypedDict, total=False):
    """What an export can be told; see `export`."""

    dynamic_batch: bool
    codes_only: bool
    metadata: Mapping[str, Any] | None


def export(
    watched: Watched,
    path: str | Path,
    example: Example,
    *,
    dynamic_batch: bool = True,
    codes_only: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a model, its codes and their calibration as one graph: inputs to flag.

    The graph takes `input`, or several inputs by the names that the model gives them, and `alpha`,
    () float64; it gives `output`, `surprise`, `percentile`, `p_value`, `by_layer`, `flag` and
    `smallest_alpha`.

    Args:
        watched: the calibrated model.
        path: `.pt2` (torch.export) or `.onnx` (needs the extra `export`).
        example: a batch of the model's inputs: a tensor, a tuple, or a mapping by name.
        dynamic_batch: the graph takes any number of inputs; False as many as the example.
        codes_only: without the model: the graph takes what the watched layers return.
        metadata: further JSON values to write into the file.

    Returns:
        What the file says of itself.

    Raises:
        NotReadyError: before calibration.
        InputError: an unknown suffix, an example that the model refuses, an operation that has no
            form in the graph, or more than 2 GB for ONNX.
        MissingExtraError: ONNX is not installed.
    """
    path = Path(path)
    check_format(path)
    _check_ready(watched)
    inputs = named_inputs(watched.model, example)
    if dynamic_batch:  # a batch of one is doubled: a graph takes a size of 1 for a constant
        inputs = {name: torch.cat([x, x]) if len(x) == 1 else x for name, x in inputs.items()}
    graph = Graph(watched, inputs)
    if codes_only:
        inputs = layer_inputs(graph, inputs)
        graph = CodesGraph(watched, inputs)
    _check_size(graph, path)
    program = _program(graph, inputs, dynamic_batch)
    about = {**_about(watched, inputs), **(metadata or {})}
    content = _onnx(program, inputs, about) if path.suffix == ".onnx" else _pt2(program, about)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return about


def check_format(path: Path) -> None:
    """Refuse a file of a kind that is not, or cannot be, written; errors as `export`."""
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"export {path}: unknown suffix {path.suffix!r}; {did_you_mean(path.suffix, SUFFIXES)}"
        )
    if path.suffix == ".onnx":
        need_extra("export to ONNX", "onnxscript", "export")


def _check_ready(watched: Watched) -> None:
    """Refuse a model that is not calibrated, or has changed since."""
    if watched.calibration is None:
        raise NotReadyError("export: not calibrated; call calibrate(loader) on held-out data first")
    if complaint := watched.condition.complaint(watched.model):
        raise InputError(f"export: {complaint}")


def _check_size(graph: Graph, path: Path) -> None:
    """Refuse more weights than the file can hold."""
    size = sum(tensor.nbytes for tensor in (*graph.parameters(), *graph.buffers()))
    if path.suffix == ".onnx" and size > MAX_ONNX:
        raise InputError(
            f"export {path}: found {size:,} bytes of weights, allowed in an ONNX file: "
            f"{MAX_ONNX:,}; .pt2 files have no such limit"
        )


def named_inputs(model: nn.Module, example: Example) -> dict[str, Tensor]:
    """The inputs of a graph by name: `input`, the model's own names of several, or the given ones.

    Raises:
        InputError: no tensors, or inputs of different batches.
    """
    if isinstance(example, Mapping):
        inputs = dict(example)
    elif isinstance(example, tuple):
        inputs = dict(zip(_parameter_names(model), example, strict=False))
    else:
        inputs = {"input": example}
    wrong = [name for name, value in inputs.items() if not isinstance(value, Tensor)]
    if wrong or not inputs or "alpha" in inputs:
        raise InputError(
            f"export example: found {wrong or list(inputs)}, allowed: a tensor, a tuple of tensors "
            "or a mapping of them, with another name than 'alpha'"
        )
    sizes = {name: tuple(value.shape[:1]) for name, value in inputs.items()}
    if len(set(sizes.values())) > 1 or () in sizes.values() or (0,) in sizes.values():
        raise InputError(f"export example: found batches {sizes}, allowed: one size, at least 1")
    return inputs


def _parameter_names(model: nn.Module) -> list[str]:
    return list(signature(model.forward).parameters)


def _program(graph: Graph, inputs: dict[str, Tensor], dynamic_batch: bool) -> ExportedProgram:
    """The traced graph.

    Raises:
        InputError: an example that the model or its codes refuse, or an operation that cannot be
            traced.
    """
    device = next(iter(inputs.values())).device
    alpha = torch.tensor(0.05, dtype=torch.float64, device=device)
    given = graph.arguments(inputs, alpha)
    with torch.no_grad():
        try:
            graph(**given)
        except Exception as error:
            shapes = {name: tuple(x.shape) for name, x in inputs.items()}
            raise InputError(f"export example: found shapes {shapes}: {_line(error)}") from error
        batch = {0: Dim("batch")} if dynamic_batch else None
        open_dims = graph.arguments(dict.fromkeys(inputs, batch), None)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.export.export(graph, (), given, dynamic_shapes=open_dims, strict=False)
        except Exception as error:
            raise InputError(
                f"export: the model cannot be traced: {_line(error)}; {ALONE}"
            ) from error


def _line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__


def _about(watched: Watched, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a file says of itself, as plain JSON values."""
    calibration = watched.calibration
    assert calibration is not None
    try:
        installed = version("nervecode")
    except PackageNotFoundError:
        installed = "unknown"
    return {
        "version": installed,
        "calibration_inputs": calibration.num_samples,
        "smallest_alpha": calibration.smallest_alpha,
        "method": calibration.method,
        "layers": list(calibration.layers),
        "weights": watched.condition.digest,
        "inputs": {name: [None, *x.shape[1:]] for name, x in inputs.items()},
    }


def _pt2(program: ExportedProgram, about: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={METADATA: json.dumps(about)})
    return file.getvalue()


def _onnx(
    program: ExportedProgram, inputs: Mapping[str, Tensor], about: Mapping[str, Any]
) -> bytes:
    outputs = [name for name in OUTPUTS if name in program.call_spec.out_spec.context]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = torch.onnx.export(
                program,
                input_names=[*inputs, "alpha"],
                output_names=outputs,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        cause = _deepest(error)
        raise InputError(
            f"export: ONNX has no form of the model: {_line(cause)}; {ALONE}"
        ) from error
    assert converted is not None
    properties = {f"nervecode.{key}": json.dumps(value) for key, value in about.items()}
    converted.model.metadata_props.update(properties)
    return bytes(converted.model_proto.SerializeToString())


def _deepest(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
