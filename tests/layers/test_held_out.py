"""Calibration on held-out inputs: what was fitted to is noticed, what was not is left alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import nervecode
from nervecode.errors import InputError
from nervecode.layers import CodeFitter, WrappedModel

N = 400


def data(seed: int, n: int = N) -> tuple[Tensor, Tensor]:
    y = torch.arange(n) % 3
    noise = torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))
    return noise + 2 * nn.functional.one_hot(y, 8), y


def loader(x: Tensor, y: Tensor, batch: int = 50, *, shuffle: bool = False) -> DataLoader:
    return DataLoader(TensorDataset(x, y), batch, shuffle=shuffle)


@pytest.fixture
def fitted() -> WrappedModel:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    return nervecode.wrap(model, "all_linear").fit(loader(*data(0)))


@contextmanager
def silent() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


SAME: dict[str, Callable[[], DataLoader]] = {
    "the same loader": lambda: loader(*data(0)),
    "shuffled": lambda: loader(*data(0), shuffle=True),
    "other batches": lambda: loader(*data(0), 7),
    "a part of it": lambda: loader(*(t[100:250] for t in data(0))),
    "other labels": lambda: loader(data(0)[0], data(0)[1].flip(0)),
}


@pytest.mark.parametrize("kind", SAME)
def test_the_inputs_of_the_fit_are_noticed(fitted: WrappedModel, kind: str) -> None:
    with pytest.warns(UserWarning, match="100% of the inputs were fitted to, .* calibrate on held"):
        fitted.calibrate(SAME[kind]())


def test_a_partial_overlap_is_noticed_with_its_share(fitted: WrappedModel) -> None:
    (seen, new), y = (data(seed)[0] for seed in (0, 1)), data(0)[1]
    mixed = torch.cat([seen[:40], new[40:]])
    with pytest.warns(UserWarning, match="calibrate: 10% of the inputs were fitted to"):
        fitted.calibrate(loader(mixed, y, shuffle=True))


def test_held_out_inputs_are_not(fitted: WrappedModel) -> None:
    with silent():
        fitted.calibrate(loader(*data(1)))
        fitted.calibrate([data(1)[0]])


def test_a_few_duplicates_are_no_overlap(fitted: WrappedModel) -> None:
    mixed = torch.cat([data(0)[0][:4], data(1)[0]])
    with silent():
        fitted.calibrate([mixed])


def test_inputs_that_repeat_are_told(fitted: WrappedModel) -> None:
    x = data(1)[0][:30]
    expected = "calibrate: 90% of the 300 inputs repeat others: .* the promise is that of 30 inputs"
    for batches in ([x] * 10, [x.repeat(10, 1)], [x.repeat(10, 1)[torch.randperm(300)]]):
        with pytest.warns(UserWarning, match=expected):
            fitted.calibrate(batches)
    fitted.calibrate([data(2)[0]])
    with pytest.warns(UserWarning, match="90% of the 300 inputs repeat others"):
        fitted.calibrate([x] * 10, add=True)
    mixed = torch.cat([data(1)[0], data(1)[0][:20]])  # 20 of 420
    with silent():
        fitted.calibrate([mixed])


def test_a_call_that_runs_the_model_twice_repeats_nothing(fitted: WrappedModel) -> None:
    def twice(model: nn.Module, batch: Tensor) -> Tensor:
        model(batch)
        return model(batch)

    fitted.fit([data(0)], call=lambda model, batch: twice(model, batch[0]), labels=lambda b: b[1])
    with silent():
        fitted.calibrate([data(1)[0]], call=twice)


def test_files_and_shards_know_the_inputs_of_the_fit(fitted: WrappedModel, tmp_path: Path) -> None:
    fitted.save(tmp_path / "codes.safetensors")
    loaded = nervecode.load(tmp_path / "codes.safetensors", fitted.unwrap())
    with pytest.warns(UserWarning, match="100% of the inputs"):
        loaded.calibrate(loader(*data(0)))

    first, second = CodeFitter(loaded), CodeFitter(loaded)
    for fitter, (x, y) in ((first, data(0)), (second, data(1))):
        with fitter.watching():
            loaded.model(x)
        fitter.update(y, 3)
    second.merge(first.state_dict())
    second.finish()
    for seed in (0, 1):
        with pytest.warns(UserWarning, match="100% of the inputs"):
            loaded.calibrate(loader(*data(seed)))
    with silent():
        loaded.calibrate(loader(*data(2)))


def test_codes_that_do_not_know_their_inputs_say_so(fitted: WrappedModel) -> None:
    fitted.fit_inputs = None  # as in a file of an earlier version
    with pytest.warns(UserWarning, match="the codes do not tell which inputs fitted them") as told:
        fitted.calibrate(loader(*data(1)))
    assert len(told) == 1
    with silent():  # learned codes have no fit
        nervecode.wrap(fitted.unwrap(), "all_linear").calibrate(loader(*data(1)))


def test_few_inputs_are_told(fitted: WrappedModel) -> None:
    with pytest.warns(UserWarning, match="calibrate: 16 inputs give no p-value below 1/17") as told:
        fitted.calibrate(loader(*data(1, 16)))
    assert len(told) == 1
    assert (fitted.calibration.num_samples, fitted.calibration.smallest_alpha) == (16, 1 / 17)


@pytest.mark.parametrize("label_code", [True, False])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e20, -1e30])
def test_an_odd_row_spoils_no_other(fitted: WrappedModel, value: float, label_code: bool) -> None:
    fitted.fit(loader(*data(0)), label_code=label_code)
    x, new = data(1)[0], data(2)[0]
    odd = torch.full((1, 8), value)
    fitted.calibrate([x])
    fitted(new)
    expected = fitted.surprise().p_value
    with pytest.warns(UserWarning, match="calibrate: 1 of 401 inputs have NaN or infinity, and ar"):
        fitted.calibrate([torch.cat([x[:9], odd, x[9:]])])
    fitted(torch.cat([new[:5], odd, new[5:]]))
    with pytest.warns(UserWarning, match="in 1 of 401 inputs, which count as the most surprising"):
        found = fitted.surprise()
    assert found.p_value[5] == 1 / 401
    others = torch.cat([found.p_value[:5], found.p_value[6:]])
    torch.testing.assert_close(others, expected, atol=2 / 401, rtol=0)
    with pytest.raises(InputError, match="layer '0': found NaN or infinity in every input"):
        fitted.calibrate([odd.expand(5, 8)])


def test_the_warning_is_worth_it(fitted: WrappedModel) -> None:
    """False alarms at 5 %: as many as asked for on held-out data, many more on the fit's own."""

    def alarms() -> float:
        new = data(3, 3000)[0]
        fitted(new)
        return float((fitted.surprise().p_value <= 0.05).double().mean())

    few = tuple(t[:100] for t in data(0))
    fitted.fit(loader(*few))
    with pytest.warns(UserWarning, match="were fitted to"):
        fitted.calibrate(loader(*few))
    assert alarms() > 0.15
    with silent():
        fitted.calibrate(loader(*data(1)))
    assert abs(alarms() - 0.05) < 3 * (0.05 * 0.95 * (1 / N + 1 / 3000)) ** 0.5
