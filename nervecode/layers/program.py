"""Program: a graph as torch traces it and as ONNX has it; what they cannot do is one sentence."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from traceback import walk_tb
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from nervecode.errors import InputError
from nervecode.layers.graph import OUTPUTS, Graph
from nervecode.layers.onnx_forms import exact_forms

ALONE = "codes_only=True exports the codes alone, from the layers' activations to the flag"
BATCH = "batch"  # the name of the open dimension
NOT_THE_USERS = {"torch", "nervecode", *sys.stdlib_module_names}


@contextmanager
def refused_example(given: Mapping[str, Tensor]) -> Iterator[None]:
    """Within it, an error is that the model or its codes do not take this example."""
    try:
        yield
    except Exception as error:
        shapes = {name: tuple(x.shape) for name, x in given.items()}
        raise InputError(f"export example: found shapes {shapes}: {_line(error)}") from error


def try_out(graph: Graph, inputs: dict[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Run a graph once, since what a tracer says of a bad example helps nobody.

    Args:
        graph: what is to be traced.
        inputs: those of the graph.
        given: those of the model, which the user gave.

    Raises:
        InputError: the model or its codes refuse the example, or its codes are not finite.
    """
    with torch.no_grad(), refused_example(given):
        by_layer = graph(**_arguments(graph, inputs))["by_layer"]
    if by_layer.isfinite().all():
        return
    names = [repr(name) for name, x in given.items() if not x.isfinite().all()]
    where = ", ".join(names) or "the codes of finite inputs"
    raise InputError(
        f"export example: found NaN or infinity in {where}, allowed: finite inputs, such as a "
        "batch of the calibration data"
    )


def trace(graph: Graph, inputs: dict[str, Tensor], dynamic_batch: bool) -> ExportedProgram:
    """The traced graph.

    Raises:
        InputError: an operation that cannot be traced.
    """
    batch = Dim(BATCH)
    dims = {name: {graph.batch_dim(name): batch} if dynamic_batch else None for name in inputs}
    open_dims = graph.arguments(dims, None)
    given = _arguments(graph, inputs)
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(graph, (), given, dynamic_shapes=open_dims, strict=False)
    except Exception as error:
        raise InputError(
            f"export: the {graph.subject} cannot be traced{_place(error)}: {_line(error)}"
            + _advice(graph)
        ) from error


def _advice(graph: Graph) -> str:
    """What else can be exported, where it is not the codes alone that failed."""
    return f"; {ALONE}" if graph.subject == "model" else ""


def _arguments(graph: Graph, inputs: dict[str, Tensor]) -> dict[str, Any]:
    device = next(iter(inputs.values())).device
    return graph.arguments(inputs, torch.tensor(0.05, dtype=torch.float64, device=device))


def to_onnx(
    program: ExportedProgram,
    graph: Graph,
    inputs: Mapping[str, Tensor],
    properties: Mapping[str, str],
    dynamic_batch: bool,
) -> bytes:
    """The content of an ONNX file.

    Raises:
        InputError: an operation that has no form in ONNX.
    """
    outputs = [name for name in OUTPUTS if name in program.call_spec.out_spec.context]
    dims = {name: {graph.batch_dim(name): BATCH} if dynamic_batch else None for name in inputs}
    try:
        with _quiet():
            converted = torch.onnx.export(
                program,
                input_names=[*inputs, "alpha"],
                output_names=outputs,
                dynamic_shapes={**dims, "alpha": None},
                dynamo=True,
                custom_translation_table=exact_forms(),
                verbose=False,
            )
    except Exception as error:
        cause = _deepest(error)
        raise InputError(
            f"export: ONNX has no form of the {graph.subject}: {_line(cause)}{_advice(graph)}"
        ) from error
    assert converted is not None
    converted.model.metadata_props.update(properties)
    return bytes(converted.model_proto.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's warnings, logs and dumps of graphs from the terminal: the error says enough."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _place(error: BaseException) -> str:
    """The innermost line of the model's own code that led to an error raised below."""
    place = ""
    for frame, number in walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__")).split(".")[0] not in NOT_THE_USERS:
            place = f" in {frame.f_code.co_name}, {frame.f_code.co_filename}:{number}"
    return place


def _line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__


def _deepest(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
