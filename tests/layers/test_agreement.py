"""Every path agrees with eager PyTorch, on twelve kinds of network and three batch sizes.

The networks are those of scripts/bench_agreement.py, which prints the same differences.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import nervecode

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/bench_agreement.py"
KINDS = (
    "mlp", "trained mlp", "lstm", "transformer", "bert", "vit", "swin", "resnet18", "mobilenet_v2",
    "mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2", "regnet_y_400mf",
)  # fmt: skip


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("bench_agreement", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_script_has_the_kinds_that_are_promised(script: ModuleType) -> None:
    assert tuple(script.CASES) == KINDS
    assert script.BATCHES == (1, 7, 64)


def test_a_difference_is_seen(script: ModuleType) -> None:
    bits, surprise, p = np.array([[1.0, 9.0], [3.0, 4.0]]), np.zeros(2), np.array([0.5, 0.25])
    same = script.Answer(bits, surprise, p)
    other = script.Answer(bits + np.array([[0, 1], [0, 0]]), surprise, p + np.array([0, 3 / 200]))
    assert script.Difference.of(same, same) == (0, 0, 0)
    assert script.Difference.of(other, same) == (pytest.approx(0.1), 0.5, 3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_graphs_agree_with_eager(kind: str, script: ModuleType) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    if kind == "bert":
        pytest.importorskip("transformers")
    for path, difference in script.differences(kind).items():
        assert difference.bits < 1e-3, path
        assert difference.ranks <= 1, path
        assert difference.p_values <= 0.05, path  # but at ties


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mlp", "vit", "resnet18"])
def test_a_compiled_score_is_one_graph_and_agrees(kind: str, script: ModuleType) -> None:
    wrapped, inputs = script.calibrated(script.CASES[kind])
    torch.compiler.reset()  # the limit of recompilations counts those of other networks, too
    compiled = torch.compile(wrapped.score, fullgraph=True)
    with torch.no_grad():
        for size in script.BATCHES:
            x = inputs["input"][:size]
            expected, (output, surprise) = wrapped.score(x), compiled(x)
            torch.testing.assert_close(output, expected[0], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(
                surprise.by_layer, expected[1].by_layer, rtol=1e-3, atol=1e-3
            )
            gap = (surprise.p_value - expected[1].p_value).abs() * (script.CALIBRATED + 1)
            assert gap.max() < 1.5 and (gap > 0.5).double().mean() <= 0.05


@pytest.mark.slow
def test_a_score_is_one_graph(script: ModuleType) -> None:
    wrapped, inputs = script.calibrated(script.CASES["mlp"])
    compiled = torch.compile(wrapped.score, backend="eager", fullgraph=True)
    with torch.no_grad():
        surprise = compiled(inputs["input"])[1]
    assert isinstance(surprise, nervecode.scoring.AggregatedSurprise)
    torch.testing.assert_close(
        surprise.p_value, wrapped.score(inputs["input"])[1].p_value, rtol=0, atol=1.5 / 200
    )
