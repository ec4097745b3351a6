"""The Triton configuration that docs/deployment.md shows fits the graph that is exported."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import nervecode
from nervecode.lab.config.resolve import resolve
from nervecode.lab.data.samples import Samples
from nervecode.lab.models.build import build_model
from nervecode.layers.graph import OUTPUTS

PAGE = Path(__file__).parents[2] / "docs/deployment.md"
FIELD = re.compile(r'name: "(\w+)" data_type: TYPE_(\w+) dims: \[ ([-\d, ]+) \]')
ONNX_TYPES = {"FP32": "tensor(float)", "FP64": "tensor(double)", "BOOL": "tensor(bool)"}
TORCH_TYPES = {"FP32": torch.float32, "FP64": torch.float64, "BOOL": torch.bool}
LEFT_OUT = {"smallest_alpha"}


class Field(NamedTuple):
    """An input or output as Triton is told of it."""

    kind: str
    dims: tuple[int, ...]


def fields(block: str) -> dict[str, Field]:
    """Name -> field, of the part of the configuration that is headed by `block`."""
    (config,) = re.findall(r"^```protobuf\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (part,) = re.findall(rf"^{block} \[\n(.*?)^\]$", config, re.MULTILINE | re.DOTALL)
    return {
        name: Field(kind, tuple(int(size) for size in dims.split(",")))
        for name, kind, dims in FIELD.findall(part)
    }


@pytest.fixture(scope="module")
def wrapped() -> nervecode.layers.WrappedModel:
    """What the preset `digits` makes of inputs, untrained."""
    config = resolve(preset="digits").config
    x = torch.rand(240, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    samples = Samples(x, torch.arange(240) % 8)
    torch.manual_seed(0)
    model = build_model(config.model, samples, 8).eval()
    wrapped = nervecode.wrap(model).fit([(x[:160], samples.labels[:160])])
    return wrapped.calibrate([x[160:]])


def test_the_configuration_is_that_of_the_wrapped_model(
    wrapped: nervecode.layers.WrappedModel,
) -> None:
    x = torch.rand(3, 1, 8, 8)
    output, surprise = wrapped.score(x)
    tensors = {
        "output": output,
        "surprise": surprise.surprise.float(),
        "percentile": surprise.percentile,
        "p_value": surprise.p_value,
        "by_layer": surprise.by_layer.float(),
        "flag": surprise.flag(0.05),
    }
    given, answered = fields("input"), fields("output")
    assert given == {"input": Field("FP32", (-1, 1, 8, 8)), "alpha": Field("FP64", (1,))}
    assert tuple(answered) == tuple(name for name in OUTPUTS if name not in LEFT_OUT)
    for name, (kind, dims) in answered.items():
        assert TORCH_TYPES[kind] == tensors[name].dtype, name
        assert dims == (-1, *tensors[name].shape[1:]), name


@pytest.mark.slow
def test_the_configuration_is_that_of_the_graph(
    wrapped: nervecode.layers.WrappedModel, tmp_path: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    wrapped.export(tmp_path / "model.onnx", torch.rand(2, 1, 8, 8))
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    for told, real in (
        (fields("input"), session.get_inputs()),
        (fields("output"), session.get_outputs()),
    ):
        graph = {one.name: one for one in real if one.name not in LEFT_OUT}
        assert set(told) == set(graph)
        for name, (kind, dims) in told.items():
            assert graph[name].type == ONNX_TYPES[kind], name
            sizes = tuple(size if isinstance(size, int) else -1 for size in graph[name].shape)
            assert dims == (sizes or (1,)), name


def test_a_wrong_configuration_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text().replace('"p_value" data_type: TYPE_FP64', '"p" data_type: TYPE_FP32')
    monkeypatch.setattr(Path, "read_text", lambda self: text)
    assert "p_value" not in fields("output")
    assert fields("output")["p"].kind == "FP32"
