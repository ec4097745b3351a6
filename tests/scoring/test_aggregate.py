"""Aggregation over layers against NumPy."""

import numpy as np
import pytest
import torch

from nervecode.core import Codebook, CodingTrace, SoftAssignment
from nervecode.errors import InputError, NotReadyError
from nervecode.scoring import (
    max_surprise,
    mean_surprise,
    stack_layers,
    total_surprise,
    weighted_surprise,
)

LAYERS = {"a": torch.tensor([1.0, 2.0, 3.0]), "b": torch.tensor([5.0, 1.0, 0.0])}
ROWS = np.array([[1.0, 5.0], [2.0, 1.0], [3.0, 0.0]])


@pytest.mark.parametrize(
    ("aggregate", "oracle", "method"),
    [
        (mean_surprise, ROWS.mean(1), "mean"),
        (max_surprise, ROWS.max(1), "max"),
        (total_surprise, ROWS.sum(1), "total"),
        (lambda t: weighted_surprise(t, {"a": 2, "b": -1}), ROWS @ [2, -1], "weighted"),
        (lambda t: weighted_surprise(t, {"b": 0.5}), ROWS @ [0, 0.5], "weighted"),
    ],
)
def test_aggregates(aggregate, oracle: np.ndarray, method: str) -> None:
    found = aggregate(LAYERS)
    np.testing.assert_allclose(found.surprise, oracle)
    assert found.method == method
    assert found.num_layers == len(found.layers) == found.by_layer.shape[1]
    with pytest.raises(NotReadyError, match="is not calibrated"):
        _ = found.percentile


def test_traces_and_tensors_of_several_shapes() -> None:
    code = Codebook(3, 2)(torch.zeros(3, 2), SoftAssignment())
    trace = CodingTrace(torch.tensor([7.0, 8.0, 9.0]), code, torch.zeros(3, 2))
    places = torch.arange(12.0).reshape(3, 2, 2)  # a surprise per place is averaged
    found = stack_layers({"trace": trace, "places": places})
    np.testing.assert_allclose(found, [[7, 1.5], [8, 5.5], [9, 9.5]])


@pytest.mark.parametrize("aggregate", [mean_surprise, max_surprise, total_surprise])
def test_no_layers_give_none(aggregate) -> None:
    assert aggregate({}) is None
    assert weighted_surprise({}, {}) is None


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: mean_surprise({"a": torch.zeros(3), "b": torch.zeros(2)}),
            "layer 'b': found 2 inputs, allowed: 3 as in layer 'a'",
        ),
        (lambda: weighted_surprise(LAYERS, {"aa": 1.0}), "unknown layer 'aa'; did you mean 'a'"),
        (lambda: weighted_surprise(LAYERS, {"a": np.inf}), r"weights\['a'\]: found inf"),
    ],
)
def test_errors_name_the_layer(call, text: str) -> None:
    with pytest.raises(InputError, match=text):
        call()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("aggregate", [mean_surprise, max_surprise, total_surprise])
def test_an_input_that_is_not_finite_is_as_surprising_as_any(aggregate, value: float) -> None:
    odd = {**LAYERS, "c": torch.tensor([0.0, value, 0.0])}
    found = aggregate(odd)
    assert "layer 'c': NaN or infinity in 1 of 3 inputs, which count" in found.remark
    expected = aggregate({**LAYERS, "c": torch.zeros(3)})
    assert expected.remark == ""
    assert found.surprise[1] == torch.inf
    assert torch.equal(found.surprise[[0, 2]], expected.surprise[[0, 2]])


def test_a_layer_and_the_score_by_their_names() -> None:
    found = total_surprise(LAYERS)
    assert torch.equal(found.score, found.surprise)
    assert torch.equal(
        found.layer("a"), LAYERS["a"].flatten(1).mean(1) if LAYERS["a"].ndim > 1 else LAYERS["a"]
    )
    with pytest.raises(NotReadyError, match="flag: the aggregate 'total' is not calibrated"):
        found.flag(0.5)
    assert not hasattr(found, "p_value")  # a property that raises what Python expects of it
