"""The numbers of codes that are priced together are stacked once, until one of them changes."""

from __future__ import annotations

import copy

import torch

from nervecode.core import ClassMoments, GaussianCode
from nervecode.core.gaussian import Stacked, price


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


def test_soft_codes_are_worked_out_when_they_are_asked_for() -> None:
    pair = codes()
    z = torch.randn(4, 5)
    for found in price(pair, [code.project(z) for code in pair]):
        soft = found.code
        assert not {"log_probs", "squared_distances"} & set(vars(soft))
        torch.testing.assert_close(soft.log_probs.exp().sum(1), torch.ones(4))
        torch.testing.assert_close(soft.bits, found.bits)  # from the distances alone
        assert soft.log_probs is soft.log_probs
