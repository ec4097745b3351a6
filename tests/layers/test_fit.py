"""fit: several codes per class, named outputs, tokens."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.core import Reducer
from nervecode.errors import InputError, NotReadyError
from nervecode.scoring.layer_calibration import LayerCalibration


def rings(n: int = 600) -> tuple[Tensor, Tensor]:
    """Two classes, each in two far clusters: one centre a class lies where no data are."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    side = torch.randint(2, (n,), generator=generator) * 2 - 1
    spots = torch.stack([6.0 * side, torch.where(labels == 0, 3.0, -3.0) * side], dim=1)
    return spots + 0.5 * torch.randn(n, 2, generator=generator), labels


def test_more_codes_per_class_see_the_gap_between_clusters() -> None:
    x, y = rings()
    loader = [(x[:500], y[:500])]
    wrapped = nervecode.wrap(nn.Sequential(nn.Identity(), nn.Linear(2, 2)), ["0"])

    def bits(inputs: Tensor) -> Tensor:
        wrapped(inputs)
        return wrapped.surprise("mean").surprise

    gap = torch.zeros(1, 2)
    wrapped.fit(loader, reduce="mean", length_power=1.0, codes_per_class=1)
    assert bits(gap) < bits(x[500:]).median()  # the single centre lies in the gap
    wrapped.fit(loader, reduce="mean", length_power=1.0, codes_per_class=2)
    assert wrapped.coder("0").codes.num_codes == 4
    assert bits(gap) > 50
    assert bits(x[500:]).median() < 10


def test_fitting_goes_over_the_loader_once_and_needs_a_batch() -> None:
    x, y = rings(60)
    wrapped = nervecode.wrap(nn.Sequential(nn.Linear(2, 2)), "all_linear")
    assert wrapped.fit(iter([(x, y)]), codes_per_class=2).coder("0").codes.num_codes == 4
    with pytest.raises(NotReadyError, match="fit: the loader gave no batch"):
        wrapped.fit(iter([]))
    with pytest.raises(InputError, match="codes_per_class: found 0, allowed: at least 1"):
        wrapped.fit([(x, y)], codes_per_class=0)


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"aside": x, "hidden": self.linear(x)}


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.two, self.head = TwoOutputs(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(x)["hidden"])


def test_a_named_part_of_an_output_is_watched_and_survives_fit_and_storage(tmp_path) -> None:
    model, x = Model(), torch.randn(30, 4)
    plain, named = nervecode.wrap(model, ["two"]), nervecode.wrap(model, {"two": "hidden"})
    for wrapped, expected in ((plain, x), (named, model.two.linear(x))):
        wrapped.fit([(x, torch.arange(30) % 3)], length_power=1.0)
        _, traces = wrapped.forward_with_trace(x)
        torch.testing.assert_close(traces["two"].vector, expected.detach())
    named.calibrate([x]).save(tmp_path / "named.safetensors")
    model(x)
    loaded = nervecode.load(tmp_path / "named.safetensors", model)
    _, again = loaded.forward_with_trace(x)
    torch.testing.assert_close(again["two"].surprise, traces["two"].surprise)


def test_an_unknown_part_is_skipped_with_one_warning_that_names_it() -> None:
    wrapped = nervecode.wrap(Model(), {"two": "hiden"})
    with pytest.warns(UserWarning, match=r"\['aside', 'hidden'\], which has no part 'hiden'"):
        wrapped(torch.randn(3, 4))


def test_tokens_are_averaged_over_places_with_channels_last() -> None:
    x = torch.randn(5, 7, 7, 3)
    torch.testing.assert_close(Reducer("tokens")(x), x.mean((1, 2)))
    y = torch.randn(5, 3, 3)
    torch.testing.assert_close(Reducer("tokens")(y), y.mean(1))


@pytest.mark.parametrize("method", ["fisher", "simes", "harmonic"])
def test_combined_p_values_of_the_layers_are_calibrated_again(method: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.randn(300, 4)
    wrapped = nervecode.wrap(model, "all_linear").fit([(x[:100], torch.arange(100) % 3)])
    wrapped.calibrate([x[100:200]], method=method)
    wrapped(x[200:])
    usual = wrapped.surprise()
    wrapped(10 * x[200:] + 30)
    odd = wrapped.surprise()
    assert usual.method == method
    assert (usual.surprise >= 0).all()  # bits: -log2 of a p-value
    assert odd.p_value.max() < usual.p_value.median()


def test_p_values_of_each_layer_are_counted() -> None:
    known, new = (np.random.default_rng(0).normal(size=(n, 2)) for n in (40, 10))
    calibration = LayerCalibration(
        {n: torch.tensor(known[:, [i]]) for i, n in enumerate("ab")}, "simes"
    )
    found = calibration.scores_of({n: torch.tensor(new[:, [i]]) for i, n in enumerate("ab")})
    p = np.sort([[(1 + (known[:, i] >= row[i]).sum()) / 41 for i in (0, 1)] for row in new])
    np.testing.assert_allclose(found, -np.log2(np.minimum(2 * p[:, 0], p[:, 1])))
