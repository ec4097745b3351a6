"""The numbers of codes that are priced together are stacked once, until one of them changes."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251 (users do; the library itself never does)
from typing import Any

import pytest
import torch

from nervecode.core import ClassMoments, GaussianCode
from nervecode.core.price import Stacked, price


def codes(number: int = 2) -> list[GaussianCode]:
    torch.manual_seed(0)
    y = torch.arange(60) % 3
    return [GaussianCode.fit(ClassMoments.of(torch.randn(60, 5), y, 3)) for _ in range(number)]


def test_the_same_codes_are_stacked_once() -> None:
    pair = codes()
    assert Stacked.of(pair) is Stacked.of(pair)
    assert Stacked.of(pair[:1]).gap.shape == (1, 1)


def test_codes_whose_numbers_changed_are_stacked_anew() -> None:
    first, second = codes()
    z = torch.randn(4, 5)
    stale = price([first, second], [first.project(z), second.project(z)])
    second.load_state_dict(first.state_dict())
    pair = price([first, second], [first.project(z), second.project(z)])
    torch.testing.assert_close(pair[1].bits, first(z).bits)
    assert not torch.allclose(pair[1].bits, stale[1].bits)
    second.double()
    assert Stacked.of([second]).gap.dtype == torch.float64


def test_a_copy_has_numbers_of_its_own() -> None:
    (code,) = codes(1)
    z = torch.randn(4, 5)
    before = code(z).bits
    twin = copy.deepcopy(code)
    twin.log_norm.add_(1.0)
    assert not torch.allclose(twin(z).bits, before)
    torch.testing.assert_close(code(z).bits, before)


def pickled(code: GaussianCode) -> GaussianCode:
    return pickle.loads(pickle.dumps(code))  # noqa: S301


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_copy_of_what_was_loaded_takes_other_numbers(copied: Any) -> None:
    first, second = codes()
    z = torch.randn(4, 5)
    loaded = copy.deepcopy(first)
    loaded.load_state_dict(first.state_dict())
    loaded(z)
    twin = copied(loaded)
    twin.load_state_dict(second.state_dict())
    torch.testing.assert_close(twin(z).bits, second(z).bits)
    assert not torch.allclose(twin(z).bits, first(z).bits)


def test_what_is_stacked_in_inference_mode_serves_outside() -> None:
    (code,) = codes(1)
    z = torch.randn(4, 5, requires_grad=True)
    with torch.inference_mode():
        bits = code(z.detach()).bits
    torch.testing.assert_close(code(z).bits, bits.clone())
    code(z).regret.sum().backward()
    assert z.grad is not None and z.grad.abs().sum() > 0


def test_numbers_made_in_inference_mode_are_stacked_at_each_call() -> None:
    (code,) = codes(1)
    z = torch.randn(4, 5)
    with torch.inference_mode():
        code.double().float()  # buffers anew, whose changes nobody counts
        before = code(z).bits
        code.log_norm.add_(1.0)
        assert not torch.allclose(code(z).bits, before)


def test_a_first_look_without_gradients_does_not_take_them_away() -> None:
    (code,) = codes(1)
    soft = code(torch.randn(4, 5, requires_grad=True)).code
    with torch.no_grad():
        soft.log_probs, soft.squared_distances  # noqa: B018
    assert soft.log_probs.requires_grad and soft.squared_distances.requires_grad


def test_soft_codes_are_worked_out_when_they_are_asked_for() -> None:
    pair = codes()
    z = torch.randn(4, 5)
    for found in price(pair, [code.project(z) for code in pair]):
        soft = found.code
        torch.testing.assert_close(soft.log_probs.exp().sum(1), torch.ones(4))
        torch.testing.assert_close(soft.bits, found.bits)  # from the distances alone


def test_codes_of_layers_of_several_widths_are_priced_together() -> None:
    """Where classes are more than dimensions, what the background saves has as many numbers."""
    torch.manual_seed(0)
    y = torch.arange(90) % 9
    widths = (3, 5, 20)
    several = [GaussianCode.fit(ClassMoments.of(torch.randn(90, d), y, 9)) for d in widths]
    assert [code.saving.shape[1] for code in several] == [3, 5, 9]
    rows = [torch.randn(4, d) for d in widths]
    pairs = zip(several, rows, strict=True)
    for found, (code, z) in zip(
        price(several, [code.project(z) for code, z in zip(several, rows, strict=True)]),
        pairs,
        strict=True,
    ):
        torch.testing.assert_close(found.bits, code(z).bits)
        torch.testing.assert_close(found.regret, code(z).regret)
