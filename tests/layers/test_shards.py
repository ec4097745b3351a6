"""Codes that are fitted over shards are those of one pass over all of the data."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from nervecode.core import ClassMoments
from nervecode.core.centres import SAMPLE
from nervecode.layers import WrappedModel, wrap
from nervecode.layers.fitter import CodeFitter

CLASSES = 3


def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    y = torch.randint(CLASSES, (300,))
    return torch.randn(300, 10) + 2 * torch.eye(CLASSES, 10)[y], y


def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))


def fitter_of(network: nn.Module, codes_per_class: int = 1) -> CodeFitter:
    wrapped = wrap(network, "all_linear")
    return CodeFitter(wrapped, codes_per_class=codes_per_class, length_power=1.0)


def see(fitter: CodeFitter, x: Tensor, y: Tensor) -> None:
    with torch.no_grad(), fitter.watching():
        fitter.watched.model(x)
    fitter.update(y, CLASSES)


def codes(wrapped: WrappedModel) -> dict[str, Tensor]:
    return {name: t for name, t in wrapped.coders.state_dict().items() if t.is_floating_point()}


@pytest.mark.parametrize("codes_per_class", [1, 3])
@pytest.mark.parametrize("cuts", [[150], [1, 2, 299], [0, 100, 100, 300]])
def test_the_codes_of_shards_are_those_of_one_pass(cuts: list[int], codes_per_class: int) -> None:
    x, y = data()
    whole = fitter_of(model(), codes_per_class)
    see(whole, x, y)
    whole.finish()

    bounds = [0, *cuts, len(x)]
    shards = [slice(a, b) for a, b in pairwise(bounds)]
    fitters = [fitter_of(model(), codes_per_class) for _ in shards]
    for fitter, shard in zip(fitters, shards, strict=True):
        see(fitter, x[shard], y[shard])
    first, *others = fitters
    for other in others:
        first.merge(load(save(other.state_dict())))
    merged = first.state_dict()
    for other in others:
        other.load_state_dict(merged)
    for fitter in fitters:
        fitter.finish()
        for name, expected in codes(whole.watched).items():
            found = codes(fitter.watched)[name]
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_a_state_holds_sums_and_a_sample_and_not_the_data() -> None:
    x, y = data()
    fitter = fitter_of(model(), codes_per_class=2)
    for _ in range(20):
        see(fitter, x, y)
    once = fitter.state_dict()
    assert len(once["layers.0.sample"]) == SAMPLE // CLASSES * CLASSES
    for _ in range(9):
        see(fitter, x, y)
    sizes = [{name: t.shape for name, t in state.items()} for state in (once, fitter.state_dict())]
    assert sizes[0] == sizes[1]
    assert int(fitter.state_dict()["layers.0.counts"].sum()) == 29 * len(x)


def test_merged_moments_are_those_of_all_the_vectors() -> None:
    x, y = data()
    first, second = fitter_of(model()), fitter_of(model())
    see(first, x[:90], y[:90])
    see(second, x[90:], y[90:])
    first.merge(second.state_dict())
    with torch.no_grad():
        z = model().get_submodule("0")(x).double()
    expected = vars(ClassMoments.of(z, y, CLASSES))
    for name, tensor in expected.items():
        found = first.state_dict()[f"layers.0.{name}"]
        torch.testing.assert_close(found, tensor, rtol=1e-12, atol=1e-9)


def test_a_shard_whose_head_is_no_classifier_has_no_label_code() -> None:
    x, y = data()
    first, second = fitter_of(model()), fitter_of(model())
    see(first, x, y)
    with torch.no_grad(), second.watching():
        second.watched.model(x)
        second.watched.model(x)
    second.update(y, CLASSES)
    merged = copy.deepcopy(first)
    merged.merge(second.state_dict())
    for fitter, expected in ((first, True), (merged, False)):
        fitter.finish()
        assert any("label" in name for name in fitter.watched.layer_names) == expected
