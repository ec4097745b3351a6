"""fit and calibrate over loaders of every kind: the same codes as from plain tensors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.errors import InputError
from nervecode.layers import WrappedModel

GENERATOR = torch.Generator().manual_seed(0)
Y = torch.arange(240) % 3
X = torch.randn(240, 5, generator=GENERATOR) + 2 * nn.functional.one_hot(Y, 5)


class Net(nn.Module):
    """One network that takes its input in every way that loaders have."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 12), nn.Linear(12, 3)

    def forward(self, x: Any = None, *, scale: Tensor | None = None) -> Tensor:
        x = torch.stack(x) if isinstance(x, list) else x
        return self.b(self.a(x if scale is None else x * scale).relu())


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def batches(make: Any, x: Tensor = X, y: Tensor = Y) -> Iterator[Any]:
    return (make(*part) for part in zip(x.split(40), y.split(40), strict=True))


def p_values(wrapped: WrappedModel) -> Tensor:
    wrapped(X[:20] + 1)
    return wrapped.surprise().p_value


@pytest.fixture(scope="module")
def expected() -> Tensor:
    known, held_out = (list(batches(lambda x, y: (x, y), X[s], Y[s])) for s in HALVES)
    return p_values(nervecode.wrap(net(), "all_linear").fit(known).calibrate(held_out))


HALVES = slice(None, None, 2), slice(1, None, 2)
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "arrays": (lambda x, y: (x.double().numpy(), y.numpy().astype(np.uint8)), {}),
    "mapping": (lambda x, y: {"x": x, "label": y}, {}),
    "mapping and labels": (lambda x, y: ({"x": x, "scale": torch.ones(1)}, y), {}),
    "list of tensors": (lambda x, y: (list(x), list(y)), {}),
    "own key": (lambda x, y: {"x": x, "kind": y}, {"labels": "kind"}),
    "floating labels": (lambda x, y: (x, y.double()), {"labels": lambda b: b[1].long()}),
    "three parts": (
        lambda x, y: (x, torch.ones(5), y),
        {"call": lambda model, b: model(b[0], scale=b[1]), "labels": lambda b: b[2]},
    ),
    "text and inputs": (
        lambda x, y: {"name": ["a"], "x": x, "labels": y},
        {"call": lambda model, b: model(b["x"])},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_batch_gives_the_codes_of_plain_tensors(kind: str, expected: Tensor) -> None:
    make, options = KINDS[kind]
    known, held_out = (batches(make, X[s], Y[s]) for s in HALVES)
    wrapped = nervecode.wrap(net(), "all_linear")
    wrapped.fit(known, **options).calibrate(held_out, **options)
    assert torch.equal(p_values(wrapped), expected)


def test_labels_of_pixels_and_numbers_are_refused_with_a_way_out() -> None:
    masks, numbers = torch.zeros(240, 4, 4).long(), X[:, 0]
    for labels in (masks, numbers):
        wrapped = nervecode.wrap(net(), "all_linear")
        with pytest.raises(InputError, match="x alone or labels=lambda batch: None gives codes wi"):
            wrapped.fit([(X, labels)])
        wrapped.fit([(X, labels)], labels=lambda batch: None)
        assert wrapped.coder("a").codes.num_classes == 1
        assert wrapped.layer_names == ("a", "b")


def test_codes_without_classes_by_a_call_are_told_once() -> None:
    wrapped = nervecode.wrap(net(), "all_linear")
    call = {"call": lambda model, batch: model(batch[0])}
    with pytest.warns(UserWarning, match="call= is given without labels=") as caught:
        wrapped.fit([(X, X, Y)] * 2, **call)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped.fit([(X, X, Y)], labels=lambda batch: None, **call)
        wrapped.fit([(X, Y)], labels=lambda batch: batch[1], **call)


def test_a_second_input_of_a_call_is_not_taken_for_classes() -> None:
    class Rating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.users, self.items = nn.Embedding(9, 6), nn.Embedding(9, 6)
            self.head = nn.Linear(6, 20)

        def forward(self, users: Tensor, items: Tensor) -> Tensor:
            return self.head(self.users(users) * self.items(items))

    random = torch.Generator().manual_seed(0)
    pairs = [tuple(torch.randint(9, (2, 90), generator=random)) for _ in range(2)]
    wrapped = nervecode.wrap(Rating(), ["users", "items"])
    with pytest.warns(UserWarning, match="call= is given without labels="):
        wrapped.fit(pairs, call=lambda model, batch: model(*batch))
    assert wrapped.coder("users").codes.num_classes == 1
    assert wrapped.layer_names == ("users", "items")


def test_a_last_batch_of_one_and_a_model_that_squeezes_it() -> None:
    class Squeezed(Net):
        def forward(self, x: Any = None, *, scale: Tensor | None = None) -> Tensor:
            return super().forward(x).squeeze()

    loader = [(X[:239], Y[:239]), (X[239:], Y[239:])]
    assert nervecode.wrap(Squeezed(), "all_linear").fit(loader).coder("a").codes.num_classes == 3


def test_the_batch_that_does_not_fit_is_named() -> None:
    wrapped = nervecode.wrap(net(), "all_linear")
    with pytest.raises(InputError, match="fit: batch 1: found 3 parts, float32 tensor of shape"):
        wrapped.fit([(X, Y), (X, X > 0, Y)])
    wrapped.fit([(X, Y)])
    with pytest.raises(InputError, match=r"calibrate: batch 0: found .* takes no list of tensors"):
        nervecode.wrap(nn.Sequential(nn.Linear(5, 3)), "all_linear").calibrate([([X, X], Y)])


def test_a_model_on_another_device_gets_its_inputs_there() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA")
    wrapped = nervecode.wrap(net().cuda(), "all_linear")
    wrapped.fit([{"x": X.numpy(), "label": Y}]).calibrate([X])
    assert wrapped(X.cuda()).is_cuda


def test_a_pass_that_fails_leaves_gradients_and_modes_as_they_were() -> None:
    x, y = torch.randn(40, 8), torch.arange(40) % 3
    net = nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.5), nn.Linear(4, 3)).train()
    wrapped = nervecode.wrap(net).fit([(x, y)])
    for failing in (
        lambda: wrapped.fit([(x, y + 9)]),
        lambda: wrapped.calibrate([x], weights=lambda batch: torch.ones(3)),
    ):
        with pytest.raises(InputError) as caught:
            failing()
        assert caught.tb is not None  # which keeps the frames of the pass alive
        assert torch.is_grad_enabled()
        assert all(module.training for module in net.modules())


def test_classes_are_those_of_the_logits_wherever_they_stand() -> None:
    class Answering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(6, 16), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            hidden = self.body(x)
            return {"hidden": hidden, "logits": self.head(hidden.relu())}

    x = torch.randn(240, 6, generator=torch.Generator().manual_seed(0))
    wrapped = nervecode.wrap(Answering().eval(), "all_linear")
    wrapped.fit([(x, torch.arange(240) % 3)])
    assert wrapped.coder("body").codes.num_classes == 3
    assert "head:label" in wrapped.layer_names
