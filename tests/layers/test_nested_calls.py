"""A model that calls itself: the outermost call says how many inputs there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.errors import NotReadyError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.h = nn.Linear(8, 16), nn.Linear(16, 4)

    def logits(self, x: Tensor) -> Tensor:
        return self.h(self.a(x).relu())


class Chunked(Net):
    """Large batches in pieces of four."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 4:
            return torch.cat([self(piece) for piece in x.split(4)])
        return self.logits(x)


class TenCrop(Net):
    """The mean over several views of each input."""

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 3:
            return self(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1)
        return self.logits(x)


class Wide(Net):
    """Calls itself on as many inputs, such as mirrored ones."""

    def forward(self, x: Tensor, *, once: bool = False) -> Tensor:
        return self.logits(x) if once else self(x, once=True) + self(x.flip(1), once=True)


def data(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def calibrated(model: nn.Module) -> nervecode.WrappedModel:
    wrapped = nervecode.wrap(model.eval(), ["a", "h"])
    labels = torch.arange(4)
    wrapped.fit([(data(4, 8, seed=s), labels) for s in range(50)])
    return wrapped.calibrate([data(4, 8, seed=s) for s in range(50, 80)])


@pytest.mark.filterwarnings("ignore:calibrate. the p-values")
def test_pieces_of_a_batch_are_not_the_batch() -> None:
    wrapped = calibrated(Chunked())
    assert wrapped.score(data(4, 8, seed=99))[1].valid.all()
    with pytest.warns(UserWarning, match=r"'a' is not coded: .* found 4 rows, .* of 8 inputs"):
        output, surprise = wrapped.score(data(8, 8, seed=99))
    assert output.shape == (8, 4)
    assert surprise.p_value.shape == surprise.valid.shape == (8,)
    assert not surprise.valid.any()
    assert surprise.flag(0.05).all()


def test_views_of_an_input_are_not_inputs() -> None:
    wrapped = calibrated(TenCrop())
    with pytest.warns(UserWarning, match=r"found 60 rows, .* of 6 inputs"):
        surprise = wrapped.score(data(6, 10, 8))[1]
    assert surprise.p_value.shape == (6,)
    assert not surprise.valid.any()
    with pytest.raises(NotReadyError, match="no watched layer ran"):
        wrapped.calibrate([data(30, 10, 8)])


def test_inner_calls_of_the_same_inputs_are_read() -> None:
    wrapped = calibrated(Wide())
    assert wrapped.score(data(5, 8))[1].valid.all()
    assert wrapped.calibration is not None
    assert list(wrapped.calibration.layers) == ["a", "h", "a#2", "h#2"]


def transformer() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 1, batch_first=True)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(("build", "layer"), [(Chunked, "a"), (transformer, "linear1")])
def test_calls_one_after_the_other_have_batches_of_their_own(
    build: Callable[[], nn.Module], layer: str, fails: bool
) -> None:
    """Also in a block that reads several, and after one that failed."""
    model, shape = build().eval(), (5, 8) if build is transformer else (8,)
    wrapped = nervecode.wrap(model, [layer])
    sizes: list[Any] = []
    with wrapped.recording(lambda coder, activation, batch: sizes.append(batch.sizes)):
        for number in (3, 2):
            if fails:
                with pytest.raises((RuntimeError, AssertionError)):
                    model(data(4, *shape[:-1], 9))
            model(data(number, *shape))
    assert sizes == [(3,), (2,)]
