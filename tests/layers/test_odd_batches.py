"""Batches of one that a model squeezes, empty ones, constant networks, shared first arguments."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.errors import NotReadyError


def heard(run: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return [str(each.message) for each in caught]


class Squeezing(nn.Module):
    """Drops the batch dimension of a batch of one, before its layers or before its head alone."""

    def __init__(self, late: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.late = late
        self.c, self.m, self.head = nn.Conv2d(2, 6, 3), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.c(x).relu().mean((2, 3))
        if self.late:
            return self.head(self.m(z).relu().squeeze())
        return self.head(self.m(z.squeeze()).relu())


def pictures(number: int, seed: int) -> Tensor:
    return torch.randn(number, 2, 6, 6, generator=torch.Generator().manual_seed(seed))


def labelled(number: int) -> list[tuple[Tensor, Tensor]]:
    labels = torch.arange(number) % 3
    return list(zip(pictures(number, 1).split(50), labels.split(50), strict=True))


@pytest.mark.parametrize("late", [False, True])
def test_a_last_batch_of_one_takes_no_layer(late: bool) -> None:
    wrapped = nervecode.wrap(Squeezing(late).eval(), ["c", "m", "head"])
    [told] = [w for w in heard(lambda: wrapped.fit(labelled(201))) if "batch 4" in w]
    assert told.startswith("fit: batch 4, of one input, is left out, since ")
    assert told.endswith(
        "in a model that squeezes; a loader with drop_last=True gives no such batch"
    )
    lost = (
        "the head 'head' is not given (B, D) in it" if late else "layer 'm' cannot be coded in it"
    )
    assert (lost if not late else "layer 'head'") in told
    remarks = heard(lambda: wrapped.calibrate(list(pictures(201, 2).split(50))))
    [told] = [w for w in remarks if "batch 4" in w]
    layer = "head" if late else "m"
    assert told == (
        f"calibrate: batch 4, of one input, is left out, since layer {layer!r} cannot be coded in "
        "it, as in a model that squeezes; a loader with drop_last=True gives no such batch"
    )
    plain = nervecode.wrap(Squeezing(late).eval(), ["c", "m", "head"]).fit(labelled(200))
    plain.calibrate(list(pictures(201, 2)[:200].split(50)))
    assert wrapped.calibration is not None and plain.calibration is not None
    assert list(wrapped.calibration.layers) == ["c", "m", "head", "head:label"]
    torch.testing.assert_close(wrapped.calibration.scores, plain.calibration.scores)


def test_a_head_that_is_not_given_rows_is_enough() -> None:
    wrapped = nervecode.wrap(Squeezing(late=True).eval(), ["c", "m"])
    [told] = heard(lambda: wrapped.fit(labelled(201)))
    assert "batch 4, of one input, is left out, since the head 'head' is not given (B, D)" in told
    assert wrapped.layer_names == ("c", "m", "head:label")


class Twice(Squeezing):
    """Runs its head twice, now and then."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.m(self.c(x).relu().mean((2, 3))).relu()
        return self.head(z) if x[0, 0, 0, 0] == 7 else self.head(z) + 0 * self.head(z)


def test_a_label_code_that_is_lost_is_told() -> None:
    batches = labelled(200)
    batches[0][0][0, 0, 0, 0] = batches[1][0][0, 0, 0, 0] = 7
    wrapped = nervecode.wrap(Twice().eval(), ["c", "m"])
    assert heard(lambda: wrapped.fit(batches)) == [
        "fit: the label of the head 'head' is not coded: in batch 2 it did not run once, and on "
        "(B, D), as in those before"
    ]
    assert wrapped.layer_names == ("c", "m")


def test_empty_batches_alone_are_told() -> None:
    wrapped = nervecode.wrap(Squeezing().eval(), ["c", "m"]).fit(labelled(200))
    with pytest.raises(NotReadyError, match="calibrate: found no input in 2 batches, allowed: two"):
        wrapped.calibrate([pictures(200, 2)[:0]] * 2)
    wrapped.calibrate([pictures(200, 2)[:0], pictures(200, 2)])
    assert wrapped.calibration is not None
    assert wrapped.calibration.num_samples == 200


def test_why_the_first_layer_was_not_coded_is_in_the_error() -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.a(x.flatten(0, 1)).view(len(x), -1, 5).mean(1))

    wrapped = nervecode.wrap(Folded().eval(), ["a"])
    with (
        pytest.warns(UserWarning, match="layer 'a' is not coded"),
        pytest.raises(NotReadyError, match=r"could be coded: 'a'; layer 'a': .*found 60 rows"),
    ):
        wrapped.fit([(torch.randn(20, 3, 4), torch.arange(20) % 3)])


def test_the_label_code_alone_calibrates_without_a_word() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    wrapped = nervecode.wrap(model, ["0"]).fit([(x[:150], torch.arange(150) % 3)])
    known = wrapped.calibrate([x[150:]]).calibration
    assert known is not None
    alone = {"2:label": known.layers["2:label"]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped.set_calibration(alone)
    assert wrapped.calibration is not None
    assert wrapped.calibration.num_samples == 150


def test_a_network_of_constant_activations_is_told() -> None:
    torch.manual_seed(0)
    dead = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    nn.init.constant_(dead[0].bias, -1e4)
    x = torch.randn(300, 6)
    wrapped = nervecode.wrap(dead, ["1", "2"]).fit([(x[:150], torch.arange(150) % 3)])
    assert heard(lambda: wrapped.calibrate([x[150:]])) == [
        "calibrate: all 150 inputs read alike in every layer, as where activations are constant: "
        "no score tells any input from another"
    ]


class Operator(nn.Module):
    """A value at each of the points that all inputs share."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.branch = nn.Linear(1, 8), nn.Linear(5, 8)

    def forward(self, points: Tensor, u: Tensor) -> Tensor:
        return self.branch(u).relu() @ self.trunk(points).relu().T


def test_a_first_argument_that_is_shared_is_told() -> None:
    points = torch.linspace(0, 1, 64)[:, None]
    batches = [torch.randn(50, 5, generator=torch.Generator().manual_seed(s)) for s in range(6)]

    def first(model: nn.Module, u: Tensor) -> Any:
        return model(points, u)

    def last(model: nn.Module, u: Tensor) -> Any:
        return model(u=u, points=points)

    wrapped = nervecode.wrap(Operator().eval(), ["trunk", "branch"])
    with pytest.warns(UserWarning, match="'branch' is not coded"):
        wrapped.fit(batches[:3], call=first, labels=lambda batch: None)
    told = [w for w in heard(lambda: wrapped.calibrate(batches[3:], call=first)) if "first" in w]
    assert told == [
        "calibrate: the layers are read as 64 inputs, as many as the first argument has, and the "
        "model answers for 50, as many as another has: if all inputs share the first, call= has to "
        "give the model that other one first, by name"
    ]
    wrapped = nervecode.wrap(Operator().eval(), ["branch"])
    wrapped.fit(batches[:3], call=last, labels=lambda batch: None)
    assert heard(lambda: wrapped.calibrate(batches[3:], call=last)) == []
    assert wrapped.calibration is not None
    assert wrapped.calibration.num_samples == 150
